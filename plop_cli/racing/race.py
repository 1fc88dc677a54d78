"""Does the placement pay? Train the candidates briefly, equally large, on the same examples, and say which is better.

outcome = race(model, tokenizer, rows, {"PLoP": placement, "MLP": other})
[(each.entry.name, each.loss.mean, each.verdict) for each in stand(outcome)]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plop_cli.bar import notebook_bar
from plop_cli.errors import PlopError, require
from plop_cli.network.offload import is_offloaded
from plop_cli.network.weights import WeightsHash
from plop_cli.placement.placement import Placement
from plop_cli.processes import ALONE, Group
from plop_cli.racing.examples import Data, draw
from plop_cli.racing.identity import Setting, entry, header
from plop_cli.racing.rounds import Rounds
from plop_cli.racing.sources import texts_of
from plop_cli.racing.training import Trainer
from plop_cli.racing.tuning import RATES, grid
from plop_cli.racing.watch import Watch
from plop_cli.texts.text import Text
from plop_cli.words import listed
from plop_registry import Entry, Race, Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@notebook_bar()
def race(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Text | Mapping[str, Any]] | Data,
    placements: Mapping[str, Placement],
    *,
    test: Iterable[Text | Mapping[str, Any]] | None = None,
    setting: Setting = Setting(),
    seeds: int = 3,
    rates: str = RATES,
    minutes: float | None = None,
    registry: Registry | str | Path | None = None,
    name: str = "",
    revision: str | None = None,
    label: str = "",
    loaded: Mapping[str, Any] | None = None,
    nfn: Mapping[str, float] | None = None,
    group: Group = ALONE,
    watch: Watch | None = None,
) -> Race:
    """Train adapters in these placements on the examples; what was found is `racing.verdicts.stand` of the result.

    Args:
        examples: texts, conversations or rows such as {"question": …, "answer": …}; or `examples.draw`'s data.
        placements: by name; what they are compared to is called "PLoP", or else comes first.
        test: what losses are measured on; by default a seeded tenth of the examples, which is not trained on.
        seeds: each is another start of the adapters and another draw of the examples, the same for all placements.
        rates: learning rates to tune over, on the first seed: "1e-4..2e-3", or one.
        minutes: after which no further lap begins.
        registry: where each lap is stored as soon as it is run, and found again; None keeps nothing.
        name, revision, label, loaded: how the race is called and what pins the weights; by default what is in memory.
        nfn: of each type, to be shown beside what the race finds.

    Nothing of `model` is changed afterwards. Raises PlopError for examples that are too few or hold no answers, and for
    models that cannot be trained here.
    """
    require("peft", "a race", extra="race")
    watch = watch or Watch()
    if seeds < 1 or (minutes is not None and not minutes > 0):
        raise PlopError("nothing can be run in no seeds or no minutes; give more")
    if is_offloaded(model):
        raise PlopError("a model that is offloaded cannot be trained; give --load-in 4bit, or a larger device")
    data = examples if isinstance(examples, Data) else _drawn(tokenizer, examples, test)
    trainer = Trainer(model, data, setting, note=watch.note)
    weights = {str(weight.dtype).removeprefix("torch.") for weight in model.parameters()}
    begun = header(
        data,
        setting,
        revision=revision or WeightsHash().revision(model),
        name=name or type(model).__name__,
        label=label,
        architecture=type(model).__name__,
        dtype="+".join(sorted(weights)),
        device=str(next(model.parameters()).device),
        **(loaded or {}),
    )
    for called, placement in placements.items():
        least = min(min(module.in_features, module.out_features) for module in placement.modules)
        if placement.rank > least:
            watch.note(f"{called}: rank {placement.rank} is more than modules with a side of {least} can use")
    entries = tuple(entry(called, placement) for called, placement in placements.items())
    for alike in _alike(entries):
        watch.note(f"{listed(alike)} put the same adapters into the same places, and run the same laps")
    begun = replace(begun, entries=entries, nfn=dict(nfn or {}))
    own = {each.adapters: placements[each.name] for each in reversed(entries)}
    opened = nullcontext(registry) if isinstance(registry, Registry) or registry is None else Registry(registry)
    with opened as store:
        rounds = Rounds(
            begun,
            {each.adapters: own[each.adapters] for each in entries},
            trainer,
            registry=store,
            minutes=minutes,
            group=group,
            watch=watch,
        )
        return rounds.run(seeds, grid(rates))


def _alike(entries: Sequence[Entry]) -> list[list[str]]:
    """The names of those whose adapters are the same."""
    names: dict[str, list[str]] = {}
    for each in entries:
        names.setdefault(each.adapters, []).append(each.name)
    return [each for each in names.values() if len(each) > 1]


def _drawn(
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Text | Mapping[str, Any]],
    test: Iterable[Text | Mapping[str, Any]] | None,
) -> Data:
    return draw(tokenizer, texts_of(examples, "examples"), None if test is None else texts_of(test, "test examples"))
