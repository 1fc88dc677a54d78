"""On 80 and on 40 columns no line is too long and no name of a type is broken: bars and columns give way before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from plop_cli.comparison.compare import compare
from plop_cli.opinions.beside import beside
from plop_cli.opinions.methods import METHODS, OF_WEIGHTS
from plop_cli.opinions.ordering import of_run
from plop_cli.tables.catalogue import tasks_table
from plop_cli.tables.comparison import comparison_table
from plop_cli.tables.fit import Row, cut, drop, fitted, shortened, wrap
from plop_cli.tables.history import history_table
from plop_cli.tables.opinions import opinions_table
from plop_cli.tables.run import nfn_map, run_table
from plop_registry import ModuleScore, ModuleValue, Run, SampleMatrix

MakeRun = Callable[..., tuple[Run, SampleMatrix]]

TYPES = [f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")] + [
    "experts.down_proj",
    "shared_expert.up_proj",
    "linear_attn.in_proj_qkvz",
]


@pytest.fixture(scope="module")
def many(make_run: MakeRun) -> Run:
    """A run of many types, some of them long, that saw tokens unevenly, with parts."""
    run, _ = make_run(id="0123456789abcdef", model_label="checkpoint-1200", task_id="train.jsonl:prompt")
    scores = tuple(
        replace(run.types[0], type=type, nfn=0.5 + index / 5, recommended=index < 3) for index, type in enumerate(TYPES)
    )
    modules = tuple(
        ModuleScore(f"model.layers.{layer}.{type}", type, layer, 64, 32, 0.5 + layer, 1.0, 0.01, 100 + layer)
        for layer in range(2)
        for type in TYPES
    )
    return replace(run, types=scores, modules=modules)


def shown(renderable: RenderableType, width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [200, 80, 40])
@pytest.mark.parametrize("by", ["type", "layer", "module"])
def test_a_run_fits(many: Run, by: str, width: int) -> None:
    lines = shown(run_table(many, by=by, width=width), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    if by == "type":
        for score in many.types:
            assert any({score.type, f"{score.nfn:.3f}"} <= set(line.split()) for line in lines), score.type
        assert ("━" in text) == (width == 200), "the bar is the first to go"
    if by == "module":
        assert ("…" in text) == (width == 40)
        assert text.count("_proj") >= len(many.modules), "it is the middle that goes"


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40])
def test_second_opinions_fit_and_no_name_of_a_type_is_broken(make_run: MakeRun, width: int) -> None:
    run, _ = make_run()
    others = [METHODS[key].opinion(of_run(run)[0].values, seconds=12) for key in OF_WEIGHTS]
    lines = shown(opinions_table("org/model@0123456789ab", beside([*of_run(run), *others]), width=width), width)
    assert max(map(len, lines)) <= width
    for kind in run.types:
        assert sum(kind.type in line for line in lines) >= len(others), kind.type


@pytest.mark.parametrize("width", [1000, 200, 80])
def test_second_opinions_of_many_long_types_lose_none(width: int) -> None:
    types = [f"decoder.block.layer.DenseReluDense.w{number}" for number in range(16)]
    values = [ModuleValue(f"0.{name}", name, number + 1.0) for number, name in enumerate(types)]
    said = beside([METHODS["stable-rank"].opinion(values, seconds=1)])
    text = "\n".join(shown(opinions_table("org/model", said, width=width), width))
    assert all(name in text for name in types)
    assert text.count("●") == 1 + 3


@pytest.mark.parametrize("width", [200, 80, 40])
def test_a_map_of_many_types_is_several_side_by_side(many: Run, width: int) -> None:
    lines = shown(nfn_map(many, width=width), width)
    assert max(map(len, lines)) <= width
    heads = [word for line in lines for word in line.split() if word in TYPES]
    cut_short = [word for line in lines for word in line.split() if "…" in word]
    assert len(heads) + len(cut_short) == len(TYPES)
    assert (len(cut_short) > 0) == (width == 40)


@pytest.mark.parametrize("width", [200, 80, 40])
def test_a_comparison_fits_and_gives_its_errors_for_the_names(make_run: MakeRun, width: int) -> None:
    runs = [make_run(seed, model_label=f"checkpoint-{seed}00", model_id="a-model") for seed in range(3)]
    lines = shown(comparison_table(compare(runs, by="revision"), width=width), width)
    assert max(map(len, lines)) <= width
    first = [line.split()[0] for line in lines if line.split()]
    for score in runs[0][0].types:
        assert score.type in first
    assert any(" ± 0." in line for line in lines) == (width > 40)


LONG = "a-very-long-organisation/with-a-model-of-a-very-long-name-instruct"


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40])
@pytest.mark.parametrize("model", ["run", LONG])
def test_the_history_breaks_no_word(make_run: MakeRun, model: str, width: int) -> None:
    runs = [
        make_run(seed, id=f"{seed:016x}", model_id=f"{model}{seed % 2}", model_label=f"checkpoint-{seed}00")[0]
        for seed in range(3)
    ]
    lines = shown(history_table(runs, ["q_proj", "v_proj"], width=width), width)
    assert max(map(len, lines)) <= width
    words = {word.strip(",") for line in lines for word in line.split()}
    assert {run.id[:8] for run in runs} <= words
    types = {word for word in words if "_pro" in word}
    assert types <= {score.type for run in runs for score in run.types}
    labels = {word for word in words if word.startswith("chec")}
    whole = {run.model_label for run in runs}
    assert labels == whole or all("…" in word for word in labels)


@pytest.mark.parametrize("width", [80, 40])
def test_the_tasks_fit(width: int) -> None:
    lines = shown(tasks_table(width=width), width)
    assert max(map(len, lines)) <= width
    assert {"math", "sample/history"} <= {line.split()[0] for line in lines if line.split()}


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (50, ["name words n", "abcdefghijklmnop one two three 1"]),
        (38, ["name words", "abcdefghijklmnop one two three"]),
        (34, ["name words", "abcdefghijklmnop one two", "three"]),
        (20, ["name words", "abcd…nop one", "two", "three"]),
    ],
)
def test_columns_give_way_in_the_order_that_is_given(width: int, expected: list[str]) -> None:
    rows = [Row({"name": "abcdefghijklmnop", "words": "one two three", "n": "1"})]
    lines = shown(fitted(["name", "words", ">n"], rows, width, [*drop("n"), *wrap("words"), *cut("name")]), width)
    assert [" ".join(line.split()) for line in lines if line.strip() and "─" not in line] == expected


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [("abc", 3, "abc"), ("abcdef", 5, "ab…ef"), ("abcdef", 4, "ab…f"), ("abcdef", 2, "a…"), ("abcdef", 1, "…")],
)
def test_a_name_keeps_both_its_ends(text: str, longest: int, expected: str) -> None:
    assert shortened(text, longest) == expected
