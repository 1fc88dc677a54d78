"""Second opinions of the weights: what they take, and how far they are from the methods' own programs.

    python benchmarks/opinions.py [--model demo] [--repeats 3] [--activations]

The time is that of all singular values and of everything that is said of them, in turn with a loop of
`torch.linalg.svdvals` in float32 over the same matrices: medians, and their ratio. Then the largest relative difference
of any module from PEFT's `find_kappa_target_modules`, from NumPy's reading of a definition, and, where
`pip install --group weightwatcher` has been done, from WeightWatcher's α. With `--activations`, instead, what EVA and
block influence add to a score, and how far EVA's sketch is from all of the same inputs.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft.helpers import KappaTuneSelector

from plop_cli import score
from plop_cli.models.loading import load
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from plop_cli.network.modules import linear_modules
from plop_cli.opinions.activations import EVERY, RANK
from plop_cli.opinions.weights import of_weights
from plop_cli.scoring.tokens import tokenize
from plop_cli.texts.tasks import load_task
from plop_registry import Opinion

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from readings import READINGS


def naive(matrices: Mapping[str, torch.Tensor]) -> float:
    started = time.perf_counter()
    for W in matrices.values():
        torch.linalg.svdvals(W)
    return time.perf_counter() - started


def ours(model: Any) -> tuple[dict[str, Opinion], float]:
    started = time.perf_counter()
    return of_weights(model), time.perf_counter() - started


def furthest(opinion: Opinion, theirs: Mapping[str, float]) -> str:
    apart = {each.name: abs(each.value / theirs[each.name] - 1) for each in opinion.values if each.name in theirs}
    ranked = sorted(apart, key=lambda name: apart[name])
    worst, middle = ranked[-1], ranked[len(ranked) // 2]
    return f"{apart[worst]:.1e} at most ({worst}), median {apart[middle]:.1e}, of {len(apart)} modules"


def weightwatcher(model: Any) -> Mapping[str, float]:
    import weightwatcher

    logging.disable()
    details = weightwatcher.WeightWatcher(model=model).analyze(mp_fit=False, min_evals=10)
    return dict(zip(details.longname, details.alpha, strict=True))


def activations(model: Any, tokenizer: Any, repeats: int) -> None:
    """In CPU seconds of one thread, which other work on the machine does not change much."""
    torch.set_num_threads(1)
    texts = [text for task in ("math", "code", "history", "logic") for text in load_task(f"sample/{task}").texts]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    score(model, tokenizer, texts[:8], opinions=True)  # warms up
    for _ in range(repeats):
        for asked in seconds:
            started = time.process_time()
            score(model, tokenizer, texts, opinions=asked)
            seconds[asked].append(time.process_time() - started)
    bare, more = map(statistics.median, seconds.values())
    print(f"{len(texts)} texts: a score {bare:.1f} s, with opinions {more:.1f} s: {more / bare:.3f} times")


def against_all_inputs(model: Any, tokenizer: Any) -> None:
    """How far the sketch of each module's inputs is from all of the same tokens, whose covariance takes far longer."""
    texts = load_task("sample/math", samples=100).texts
    seen: dict[str, list[torch.Tensor]] = {m.name: [] for m in linear_modules(model)[0]}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, args, __, kept=kept: kept.append(args[0][0]))
        for name, kept in seen.items()
    ]
    with torch.no_grad():
        for ids in tokenize(tokenizer, texts, max_length=256, chat=False).ids:
            model.base_model(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    (eva, _) = score(model, tokenizer, texts, opinions=True).opinions
    exact: dict[int, float] = {}
    apart: dict[str, float] = {}
    types: dict[str, list[tuple[float, float]]] = {}
    for each in eva.values:
        rows = [z[(torch.arange(len(z)) + row) % EVERY == 0] for row, z in enumerate(seen[each.name])]
        same = seen[each.name][0].data_ptr()  # one tensor for query, key and value
        if same not in exact:
            z = torch.cat(rows).double()
            z = z - z.mean(dim=0)
            S = torch.linalg.eigvalsh(z @ z.mT if len(z) < z.shape[1] else z.mT @ z).flip(0)
            exact[same] = float(S[:RANK].sum() / S.sum())
        apart[each.name] = each.value / exact[same] - 1
        types.setdefault(each.type, []).append((each.value, exact[same]))
    means = {kind: sum(a for a, _ in pairs) / sum(b for _, b in pairs) - 1 for kind, pairs in types.items()}
    worst, of_types = (max(each, key=lambda name: abs(each[name])) for each in (apart, means))
    print(
        f"explained variance against all of its inputs: {apart[worst]:+.1%} at most ({worst}), "
        f"median {statistics.median(apart.values()):+.1%}; of types {means[of_types]:+.1%} at most ({of_types})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--activations", action="store_true", help="what EVA and block influence add to a score, and how far EVA is off"
    )
    asked = parser.parse_args()
    model, tokenizer = load(identify(asked.model), Loading(dtype="float32", device="cpu"))
    if asked.activations:
        activations(model, tokenizer, asked.repeats)
        against_all_inputs(model, tokenizer)
        return
    matrices = {m.name: m.module.get_parameter("weight").detach() for m in linear_modules(model)[0]}
    taken: list[tuple[float, float]] = []
    opinions: dict[str, Opinion] = {}
    for _ in range(asked.repeats):
        loop = naive(matrices)
        opinions, seconds = ours(model)
        taken.append((seconds, loop))
    told, loop = (statistics.median(times) for times in zip(*taken, strict=True))
    print(
        f"{len(matrices)} matrices: every opinion {told:.1f} s, a loop of svdvals {loop:.1f} s: {loop / told:.2f} times"
    )
    selector = KappaTuneSelector(model, show_progress=False)
    selector._compute_kappas()
    print(f"kappa against PEFT: {furthest(opinions['kappa'], selector._condition_numbers)}")
    spectra = {name: np.linalg.svd(W.double().numpy(), compute_uv=False) for name, W in matrices.items()}
    for method, reading in READINGS.items():
        theirs = {name: reading(W.double().numpy(), spectra[name]) for name, W in matrices.items()}
        print(f"{method} against its definition: {furthest(opinions[method], theirs)}")
    try:
        print(f"alpha against WeightWatcher: {furthest(opinions['alpha'], weightwatcher(model))}")
    except ImportError as missing:
        print(f"alpha against WeightWatcher: not compared ({missing})")


if __name__ == "__main__":
    main()
