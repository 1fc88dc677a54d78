"""Second opinions: a method in each row, and the types in the order in which it would adapt them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from plop_cli.opinions.beside import Said
from plop_cli.opinions.ordering import of_layers
from plop_cli.opinions.rules import own_choice
from plop_cli.printable import short
from plop_cli.tables.fit import WIDE, Row, cut, drop, fitted, wrap
from plop_cli.tables.plain import CHOSEN
from plop_cli.words import listed
from plop_registry import Skipped


def opinions_table(title: str, all_said: Sequence[Said], *, width: int = WIDE) -> RenderableType:
    """A table of methods, and sentences on what has no value and why."""
    rows = [
        Row(
            {
                "method": each.order.method.name,
                "types, first choice first": _types(each),
                "shared": each.shared,
                "τ": each.tau,
                "looks at": each.opinion.looks_at,
                "took": f"{each.opinion.seconds:.1f} s",
            }
        )
        for each in all_said
    ]
    compared = any(each.with_plop for each in all_said)
    headers = ("method", "types, first choice first", *((">shared", ">τ") if compared else ()), "looks at", ">took")
    give = [*drop("took", "looks at"), *wrap("types, first choice first"), *drop("shared"), *cut("method")]
    table = fitted(headers, rows, width, give)
    table.title = title
    notes = [f"{CHOSEN} is what each would adapt."]
    if compared:
        notes.append("shared: types that PLoP adapts too; τ: Kendall's, of its order and PLoP's.")
    else:
        notes.append("No text was read: modules that none runs through are among them.")
    return Group(table, *(Text(line) for line in (*notes, *missing(all_said))))


def opinions_document(model: str, revision: str, all_said: Sequence[Said]) -> dict[str, Any]:
    """The JSON form: each method with its types, its modules, its own rule's choice, and what has no value."""
    return {"model": model, "revision": revision, "methods": methods_document(all_said)}


def methods_document(all_said: Sequence[Said]) -> list[dict[str, Any]]:
    """The JSON form of each method alone."""
    return [_document(each) for each in all_said]


def opinions_rows(all_said: Sequence[Said]) -> list[dict[str, Any]]:
    """A flat row for each method and type."""
    return [
        {
            "method": each.order.method.key,
            "looks_at": each.opinion.looks_at,
            "place": place,
            "type": kind.type,
            "value": kind.value,
            "modules": kind.modules,
            "chosen": kind.type in each.order.chosen,
            "tau": each.with_plop.tau if each.with_plop else None,
        }
        for each in all_said
        for place, kind in enumerate(each.order.types, 1)
    ]


def _document(each: Said) -> dict[str, Any]:
    method, order, plop = each.order.method, each.order, each.with_plop
    return {
        "method": method.key,
        "name": method.name,
        "source": method.source,
        "looks_at": each.opinion.looks_at,
        "adapts": "lowest" if method.lowest else "highest",
        "types": [{"type": kind.type, "modules": kind.modules, "value": kind.value} for kind in order.types],
        "chosen": list(order.chosen),
        "shared_with_plop": list(plop.shared) if plop else None,
        "tau": plop.tau if plop else None,
        "modules": [{"name": name, "type": kind, "value": value} for name, kind, value in each.opinion.values],
        "own_rule": own_choice(each.opinion, among=order.values),
        "left_out": [{"name": skipped.name, "reason": skipped.reason} for skipped in each.opinion.left_out],
        "settings": dict(each.opinion.settings),
        "seconds": each.opinion.seconds,
    }


def _types(each: Said) -> Text:
    """A `Text`, as tables cut strings as long as this in the middle."""
    order = each.order
    if of_layers(each.opinion):
        ranked = sorted(each.opinion.values, key=lambda layer: layer.value if order.method.lowest else -layer.value)
        return Text(f"layers: {' '.join(_valued(layer.name, layer.value) for layer in ranked[:3])} …")
    if not order.types:
        return Text(order.why_none)
    return Text(" ".join(CHOSEN * (kind.type in order.chosen) + _valued(kind.type, kind.value) for kind in order.types))


def _valued(name: str, value: float) -> str:
    return f"{short(name)}\u00a0{_short(value)}"


def _short(value: float) -> str:
    """Three digits, all of those before the point."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def missing(all_said: Sequence[Said]) -> Iterator[str]:
    """A sentence for each reason: how many modules have no value, and by which methods."""
    reasons: dict[tuple[Skipped, ...], list[str]] = {}
    for each in all_said:
        if each.opinion.left_out:
            reasons.setdefault(each.opinion.left_out, []).append(each.order.method.name)
    for left_out, methods in reasons.items():
        for reason, count in Counter(skipped.reason for skipped in left_out).items():
            first = next(skipped.name for skipped in left_out if skipped.reason == reason)
            more = f" and {count - 1} more" if count > 1 else ""
            of = "every method" if len(methods) == len(all_said) and len(methods) > 1 else listed(methods)
            yield f"Left out by {of}: {first}{more} ({reason})."
