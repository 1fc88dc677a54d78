"""Plain rows → Vega-Lite specs. Nothing here knows runs.

    steps = colour_steps([0.6, 1.4])
    nfn_map([{"layer": 0, "type": "v_proj", "nfn": 0.6}, {"layer": 0, "type": "q_proj", "nfn": 1.4}], steps)

Rows come in the order in which types and series are to be drawn. There are no titles and no legends: the page has them
as text, which wraps on a phone, and `vega.picture` adds them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from plop_cli.report.palette import STEPS, Row
from plop_cli.report.vega import HOVER, Spec, var

_WIDTH = 720
_HALO = "halo"  # text that the stylesheet sets off from the lines below it


def colour_steps(values: Iterable[float]) -> list[float]:
    """The ten bounds between the eleven colours of a scale that is centred at 1 and even in log NFN.

    It reaches as far as the 98th percentile of |log NFN|, so that one odd module does not pale all others.
    """
    logs = sorted(abs(math.log(value)) for value in values if value > 0 and math.isfinite(value))
    reach = max(logs[round(0.98 * (len(logs) - 1))] if logs else 0.0, 0.05)
    return [round(math.exp(reach * (2 * step / STEPS - 1)), 4) for step in range(1, STEPS)]


def type_bars(rows: Sequence[Row]) -> Spec:
    """NFN by module type with its 95 % interval (paper, Figures 5 and 6).

    Rows: type, series, nfn, low and high (None where unknown), chosen. One series: the chosen types have the colour,
    and each bar its digits. Several: a colour each, and a dot behind the bars of the chosen types.
    """
    many = len(_values(rows, "series")) > 1
    rows = [
        {**row, "end": row["high"] or row["nfn"], "mark": "● " * row["chosen"] + f"{row['nfn']:.3f}" * (not many)}
        for row in rows
    ]
    top = (1.1 if many else 1.22) * max(1, *(row["end"] for row in rows))
    x = alt.X("nfn:Q", title="NFN", scale=alt.Scale(domain=[0, top], nice=False), axis=_axis())
    base = _by_type(rows)
    bars = base.mark_bar(height=10 if many else 19).encode(
        x=x,
        color=_series_colour(rows) if many else _if_chosen("chosen", "rest"),
        tooltip=_tooltip(many, "nfn=NFN", "low=from", "high=to"),
    )
    known = base.transform_filter("isValid(datum.low)")
    errors = known.mark_rule(color=var("ink")).encode(x=alt.X("low:Q"), x2="high:Q")
    marks = base.mark_text(align="left", dx=5, fontSize=10 if many else 11).properties(name=_HALO)
    layers = alt.layer(bars, _baseline("x"), errors, marks.encode(x="end:Q", text="mark:N"))
    return _spec(layers, rows, height=_height(rows))


def sample_spread(rows: Sequence[Row]) -> Spec:
    """How NFN differs between texts: 5th to 95th percentile, the middle half, and the median.

    Rows: type, series, p5, p25, p50, p75, p95.
    """
    many = len(_values(rows, "series")) > 1
    base = _by_type(rows).encode(color=_series_colour(rows) if many else alt.value(var("chosen")))
    scale = _scale(row[end] for row in rows for end in ("p5", "p95"))
    x = alt.X("p5:Q", title="NFN of a text", scale=scale, axis=_axis())
    whole = base.mark_rule(strokeWidth=1.5).encode(x=x, x2="p95:Q")
    tooltip = _tooltip(many, "p5=5 %", "p25=25 %", "p50=median", "p75=75 %", "p95=95 %")
    half = base.mark_bar(height=9 if many else 15).encode(x="p25:Q", x2="p75:Q", tooltip=tooltip)
    median = base.mark_point(filled=True, opacity=1, size=10).encode(x="p50:Q", color=alt.value(var("ink")))
    return _spec(alt.layer(whole, _baseline("x"), half, median), rows, height=_height(rows))


def nfn_map(rows: Sequence[Row], steps: Sequence[float], *, digits: bool = False, down: str = "layer") -> Spec:
    """The NFN-map (paper, Figures 4 and 8 to 12): layers down, or names of what `down` says, types across.

    Rows: layer (an int, or "–" where there is none), type, nfn. `steps` as from `colour_steps`.
    """
    layers, types = layers_of(rows) if down == "layer" else _values(rows, down), _values(rows, "type")
    cell = max(5, min(16, 560 // len(layers)))
    named = layers[:: 1 if len(layers) < 10 or down != "layer" else 5]
    colours = [var(f"d{step}") for step in range(STEPS)]
    base = alt.Chart().encode(
        x=alt.X("type:N", sort=types, title=None, axis=alt.Axis(orient="top", labelAngle=-45, labelAlign="left")),
        y=alt.Y(f"{down}:O", sort=layers, title=down, axis=alt.Axis(values=named)),
        tooltip=[alt.Tooltip(f"{down}:N"), alt.Tooltip("type:N"), alt.Tooltip("nfn:Q", title="NFN", format=".3f")],
    )
    cells = base.mark_rect().encode(
        color=alt.Color("nfn:Q", scale=alt.Scale(type="threshold", domain=list(steps), range=colours)),
    )
    deep = (alt.datum.nfn < steps[1]) | (alt.datum.nfn >= steps[-2])
    text = base.mark_text(fontSize=10).encode(
        text=alt.Text("nfn:Q", format=".2f"),
        color=alt.condition(deep, alt.value(var("strong")), alt.value(var("ink"))),
    )
    chart = alt.layer(cells, text) if digits else cells
    return _spec(chart, rows, width=(100 if digits else 36) * len(types), height=cell * len(layers))


def timeline(rows: Sequence[Row]) -> Spec:
    """NFN of every type over revisions or dates; full points are types that PLoP adapts there.

    Rows: point (a label, each its own), type, nfn, chosen; the types are named at their last points.
    """
    points, height = _values(rows, "point"), 300
    scale = _scale(row["nfn"] for row in rows)
    last = {row["type"]: row for row in rows}
    at = _spread_out({name: row["nfn"] for name, row in last.items()}, scale.domain, gap=14 / height)
    rows = [{**row, "at": at[row["type"]]} if row is last[row["type"]] else row for row in rows]
    axis = alt.Axis(labelAngle=0, labelOverlap=True, labelLimit=120)
    base = alt.Chart().encode(
        x=alt.X("point:O", sort=points, title=None, axis=axis),
        y=alt.Y("nfn:Q", title="NFN", scale=scale),
        detail="type:N",
    )
    line = base.mark_line(color=var("rest"), strokeWidth=1.5)
    dots = base.mark_point(filled=True, size=45, opacity=1, strokeWidth=1.5).encode(
        fill=_if_chosen("chosen", "page"),
        stroke=_if_chosen("chosen", "rest"),
        tooltip=[alt.Tooltip("point:N", title="at"), *_tooltip(False, "nfn=NFN")],
    )
    ends = base.transform_filter("isValid(datum.at)").mark_text(align="left", dx=10).properties(name=_HALO)
    chart = alt.layer(line, _baseline("y"), dots, ends.encode(y="at:Q", text="type:N"))
    room = 16 + 6.5 * max(map(len, last))
    return _spec(chart, rows, height=height) | {"padding": {"left": 5, "top": 5, "bottom": 5, "right": room}}


def layer_profile(rows: Sequence[Row], values: Iterable[float]) -> Spec:
    """NFN of one type through the layers, a line for each series. Rows: layer, series, nfn.

    Args: `values` are those of all the types that stand beside it, which share one scale.
    """
    many = len(_values(rows, "series")) > 1
    layers = _values(rows, "layer")
    across = alt.Scale(domain=[min(layers), max(layers)], nice=False)
    base = alt.Chart().encode(
        x=alt.X("layer:Q", title=None, scale=across, axis=alt.Axis(grid=False, tickCount=4, format="d")),
        y=alt.Y("nfn:Q", title=None, scale=_scale(values), axis=alt.Axis(tickCount=4)),
        color=_series_colour(rows) if many else alt.value(var("chosen")),
    )
    tips = [alt.Tooltip("layer:Q"), alt.Tooltip("nfn:Q", title="NFN", format=".3f")]
    tips += [alt.Tooltip("series:N", title="of")] if many else []
    hover = base.mark_point(size=80, opacity=0, filled=True).properties(name=HOVER).encode(tooltip=tips)
    chart = alt.layer(base.mark_line(strokeWidth=1.5), _baseline("y"), hover)
    return _spec(chart, rows, width=250, height=120)


def learning_curves(rows: Sequence[Row]) -> Spec:
    """Training losses over steps, a line for each series. Rows: step, loss, series."""
    x = alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=6, format="d"))
    base = alt.Chart().encode(x=x, y=alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False)))
    tips = [alt.Tooltip("step:Q"), alt.Tooltip("loss:Q", format=".3f"), alt.Tooltip("series:N", title="of")]
    hover = base.mark_point(size=80, opacity=0, filled=True).properties(name=HOVER).encode(tooltip=tips)
    return _spec(alt.layer(base.mark_line().encode(color=_series_colour(rows)), hover), rows, height=240)


def panels(named: Sequence[tuple[str, Spec]]) -> Spec:
    """Several specs as one, for a picture of them; the page lays them out itself."""
    inner = [{key: part for key, part in spec.items() if key != "$schema"} | {"title": name} for name, spec in named]
    return {"$schema": named[0][1]["$schema"], "columns": 3, "concat": inner}


def layers_of(rows: Iterable[Row]) -> list[Any]:
    """The layers of an NFN-map from top to bottom; "–" is last."""
    return sorted(_values(rows, "layer"), key=lambda layer: (layer == "–", layer))


def _spec(chart: alt.TopLevelMixin, rows: Sequence[Row], *, height: int, width: int = _WIDTH) -> Spec:
    # Altair would check every row against Vega-Lite's schema, which takes most of a report's time; a test does it.
    spec: Spec = chart.properties(width=width, height=height).to_dict(validate=False)
    for layer in spec.get("layer", ()):
        if "name" in layer["data"]:  # Altair's way to say that it has none of its own: the rows are for all layers
            del layer["data"]
    own = {key: part for key, part in spec.items() if key not in ("config", "datasets")}
    return {**own, "data": {"values": list(rows)}}


def _values(rows: Iterable[Row], field: str) -> list[Any]:
    return list(dict.fromkeys(row[field] for row in rows))


def _scale(values: Iterable[float]) -> alt.Scale:
    """A scale that holds these values and the baseline, with some room."""
    held = [1.0, *values]
    low, high = min(held), max(held)
    room = 0.05 * (high - low or 1)
    return alt.Scale(domain=[round(low - room, 4), round(high + room, 4)], nice=False)


def _by_type(rows: Sequence[Row]) -> alt.Chart:
    """Types down the side, the series of each beside one another."""
    types, series = _values(rows, "type"), _values(rows, "series")
    axis = alt.Axis(grid=False, labelColor=var("ink"))
    beside = alt.YOffset("series:N", sort=series, bandPosition=0.5) if len(series) > 1 else alt.Undefined
    return alt.Chart().encode(y=alt.Y("type:N", sort=types, title=None, axis=axis), yOffset=beside)


def _height(rows: Sequence[Row]) -> int:
    types, series = len(_values(rows, "type")), len(_values(rows, "series"))
    return types * (26 if series == 1 else 13 * series + 12)


def _axis() -> alt.Axis:
    """A horizontal axis of numbers that has room for them on a phone too."""
    return alt.Axis(tickCount=alt.ExprRef("ceil(width / 90)"), labelFlush=False)


def _series_colour(rows: Sequence[Row]) -> alt.Color:
    series = _values(rows, "series")
    return alt.Color("series:N", scale=alt.Scale(domain=series, range=[var(f"s{i}") for i in range(len(series))]))


def _if_chosen(colour: str, other: str) -> Any:
    return alt.condition(alt.datum.chosen, alt.value(var(colour)), alt.value(var(other)))


def _tooltip(many: bool, *fields: str) -> list[alt.Tooltip]:
    """Type, series where there are several, and numbers, each as "field=its title"."""
    numbers = [field.partition("=") for field in fields]
    return [
        alt.Tooltip("type:N"),
        *([alt.Tooltip("series:N", title="of")] if many else []),
        *(alt.Tooltip(f"{field}:Q", title=title, format=".3f") for field, _, title in numbers),
    ]


def _baseline(channel: str) -> alt.Chart:
    """A dashed line at 1, where a random input would be."""
    rule: alt.Chart = alt.Chart(alt.sequence(1, 2, as_="baseline")).mark_rule(strokeDash=[4, 3], color=var("muted"))
    return rule.encode(x="baseline:Q") if channel == "x" else rule.encode(y="baseline:Q")


def _spread_out(ends: dict[str, float], domain: Sequence[float], gap: float) -> dict[str, float]:
    """Where to write each name so that no two overlap, as near its value as that allows; `gap` is a share of height."""
    low, high = domain
    step = min(gap, 1 / len(ends)) * (high - low)
    names = sorted(ends, key=lambda name: ends[name])
    heights: list[float] = []
    for name in names:
        heights.append(max(ends[name], heights[-1] + step) if heights else ends[name])
    ceiling = high + step
    for index in reversed(range(len(heights))):  # what went over the top comes down again
        heights[index] = ceiling = min(heights[index], ceiling - step)
    return dict(zip(names, heights, strict=True))
