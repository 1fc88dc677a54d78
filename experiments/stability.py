"""Does the choice depend on what should not matter, and do others' criteria agree with it?

    python -m experiments.stability [--quick] [--seeds S] [--data TRAIN TEST] [--model MODEL]

The recommended types over disjoint sets of texts, over lengths, chat template, answers and precision; and those that
are chosen without data.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from experiments.shared.baselines import orders
from experiments.shared.data import called, gsm8k, load_model, needed, pairs_of
from experiments.shared.markdown import command, figure, section, table
from experiments.shared.placements import letters
from experiments.shared.program import Results, main
from experiments.shared.verdicts import FAILED, HELD, Found
from plop_cli import NFNScores, score
from plop_cli.method.choice import PLOP
from plop_cli.method.estimates import by_type, module_means
from plop_cli.method.significance import kendall_tau
from plop_cli.models.pretrained import pretrained

SETS = 20


def run(*, quick: bool, seeds: Sequence[int], data: Sequence[Path], model: str) -> Results:
    """One pass over the texts of all sets, and one for each other way to score."""
    size, few, lengths = (2, 4, (64, 128)) if quick else (64, 64, (64, 128, 256, 512))
    pairs = gsm8k("train", data)
    random.Random(seeds[0]).shuffle(pairs)
    needed(len(pairs), SETS * size, f"questions for {SETS} sets")
    questions = [pair["question"] for pair in pairs[: SETS * size]]
    solved = [f"{pair['question']}\n{pair['answer']}" for pair in pairs]
    long = ["\n\n".join(solved[start : start + 5]) for start in range(0, 5 * few // 2, 5)]
    network, tokenizer = load_model(model)
    whole = score(network, tokenizer, questions, max_length=512)
    ways = {"all questions": _way(whole)}
    ways[f"{few} questions"] = _way(score(network, tokenizer, questions[:few]))
    if tokenizer.chat_template:
        ways["chat template"] = _way(score(network, tokenizer, questions[:few], chat=True))
    ways["with answers"] = _way(score(network, tokenizer, solved[:few]))
    for length in lengths:
        ways[f"{length} tokens of five solved problems"] = _way(score(network, tokenizer, long, max_length=length))
    choices = orders(network)
    for name, other in _other_precisions(network, tokenizer):
        ways[name] = _way(score(other, tokenizer, questions[:few]))
    return {
        "settings": {"sets": SETS, "texts_per_set": size, "texts": few, "long_texts": len(long)},
        "sets": [_types(whole, slice(start, start + size)) for start in range(0, SETS * size, size)],
        "ways": ways,
        "without_data": choices,
    }


def _types(scores: NFNScores, rows: slice) -> dict[str, float]:
    """NFN of each type over some of the texts."""
    means = module_means(scores.matrix.sums[rows].astype(float), scores.matrix.counts[rows].astype(float))
    nfn = by_type(np.asarray(means), [module.type for module in scores.modules])
    return {name: round(float(value), 4) for name, value in nfn.items()}


def _way(scores: NFNScores) -> dict[str, Any]:
    return {
        "nfn": {kind.type: round(kind.nfn, 4) for kind in scores.types},
        "samples": len(scores.matrix.texts),
        "tokens": scores.tokens,
        "confidence": scores.confidence,
        "seconds": round(scores.duration, 1),
    }


def _other_precisions(model: Any, tokenizer: Any) -> Iterator[tuple[str, Any]]:
    """The same weights in bfloat16, and in bitsandbytes' 4-bit nf4."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        load = partial(pretrained, AutoModelForCausalLM, folder, trusted=False, device_map=model.device)
        yield "bfloat16", load(dtype=torch.bfloat16).eval()
        nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
        yield "4-bit (nf4)", load(dtype=torch.float32, quantization_config=nf4).eval()


def draw(results: Results) -> dict[str, alt.TopLevelMixin]:
    """NFN of every type in every set and every way."""
    rows = [{"type": name, "nfn": value, "of": "a set"} for nfn in results["sets"] for name, value in nfn.items()]
    rows += [
        {"type": name, "nfn": value, "of": way}
        for way, scored in results["ways"].items()
        for name, value in scored["nfn"].items()
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("nfn:Q", title="NFN", scale=alt.Scale(zero=False)), y=alt.Y("type:N", title=None, sort=_ranked(results))
    )
    sets = base.transform_filter(alt.datum.of == "a set").mark_tick(color="#8a95a0", thickness=1)
    ways = (
        base.transform_filter(alt.datum.of != "a set").mark_point(size=40).encode(color=alt.Color("of:N", title=None))
    )
    return {"stability": (sets + ways).properties(width=480, height=220)}


def _ranked(results: Results) -> list[str]:
    """The types in the order of all questions."""
    return list(results["ways"]["all questions"]["nfn"])


def _without_data(results: Results, reference: dict[str, float], chosen: set[str]) -> list[dict[str, str]]:
    """A row for each choice that needs no data, against what PLoP chose."""
    return [
        {
            "chosen by": name,
            "in order of choice": letters(types),
            "chosen types shared": f"{len(chosen & set(types[: len(chosen)]))} of {len(chosen)}",
            "τ": f"{_tau(reference, {kind: rank for rank, kind in enumerate(types)}):.2f}",
        }
        for name, types in results["without_data"].items()
    ]


def claims(results: Results) -> dict[str, Found]:
    """What became of the choice over sets of texts and ways to score."""
    chosen = set(PLOP.chosen(results["ways"]["all questions"]["nfn"]))
    sets = all(set(PLOP.chosen(nfn)) == chosen for nfn in results["sets"])
    ways = all(set(PLOP.chosen(way["nfn"])) == chosen for way in results["ways"].values())
    verdicts = {
        f"{results['settings']['texts_per_set']} other questions choose the same types": sets,
        "so do other ways to score": ways,
    }
    return {claim: Found(HELD if held else FAILED) for claim, held in verdicts.items()}


def tell(results: Results) -> str:
    settings = results["settings"]
    reference = results["ways"]["all questions"]["nfn"]
    chosen = set(PLOP.chosen(reference))
    sets = Counter(frozenset(PLOP.chosen(nfn)) for nfn in results["sets"])
    same = sets[frozenset(chosen)]
    spread = max(max(values) - min(values) for values in zip(*(nfn.values() for nfn in results["sets"]), strict=True))
    ways = [
        {
            "scored on": name,
            "texts": f"{way['samples']:,}",
            "tokens": f"{way['tokens']:,}",
            "lowest first": letters(list(way["nfn"])),
            "chosen types shared": f"{len(chosen & set(PLOP.chosen(way['nfn'])))} of {len(chosen)}",
            "τ": f"{_tau(reference, way['nfn']):.2f}",
            "largest shift of NFN": f"{max(abs(way['nfn'][kind] / reference[kind] - 1) for kind in reference):.1%}",
        }
        for name, way in results["ways"].items()
    ]
    moved = [way["scored on"] for way in ways if way["chosen types shared"] != f"{len(chosen)} of {len(chosen)}"]
    verdict = (
        f"**The choice changed for: {', '.join(moved)}.**"
        if moved
        else "The choice did not change in any of the ways below."
    )
    apart = [name for name, types in results["without_data"].items() if chosen != set(types[: len(chosen)])]
    without = (
        f"Of the choices that need no data, {', '.join(apart)} {'differs' if len(apart) == 1 else 'differ'} from it."
        if apart
        else "**On this model the choices that need no data are all the same set**, so it cannot tell them apart."
    )
    claim = f"""The paper scores one sample of each task, cut at 256 tokens, and does not say how stable the choice is.
    {verdict} Over {settings["sets"]} disjoint sets of {settings["texts_per_set"]} questions the same types,
    {letters(PLOP.chosen(reference))}, were chosen in {same}, and the NFN of a type differed by at most {spread:.3f}.
    {without}"""
    done = f"""Done: {called(results)}, float32 unless another precision is named, questions of {pairs_of(results)}'s
    training set, drawn with seed {results["seeds"][0]}. The lengths are of {settings["long_texts"]} texts of five
    solved problems each, cut. τ is Kendall's, of the order of all types; τ and shifts are against all questions."""
    return section(f"""## Stability of the choice

{claim}

{done}

{table(ways)}

{figure(results, "stability", "NFN of every type, over sets of texts and ways to score")}

{table(_without_data(results, reference, chosen))}

{command(results)}
""")


def _tau(reference: dict[str, float], other: dict[str, float]) -> float:
    return kendall_tau(list(reference.values()), [other[name] for name in reference])


if __name__ == "__main__":
    main("stability", run, tell, seeds=[0], data="GSM8K")
