"""What the commands do, as functions: models and tasks by name, with the registry in between.

    run = score_model("demo", "sample/math")                    # what is stored, else scored and stored
    placement = recommend_runs("demo/sample/math", match="mlp:8")
    opinions = second_opinions("demo")                         # what others would choose, by the weights alone
    comparison = compare_runs(by="task", model="demo")
    runs = list_runs(model="demo")
    write_report("report.html", model="demo")

A run is named as on the command line: its id, the first digits of it, "latest", or MODEL/TASK. `registry` is an open
`Registry`, a path or a URL; by default it is the command line's own. Filters are those of `Registry.runs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plop_cli.bar import notebook_bar
from plop_cli.comparison.compare import compare_stored
from plop_cli.comparison.values import Comparison
from plop_cli.errors import PlopError
from plop_cli.files import check_new, write
from plop_cli.models.options import Loading
from plop_cli.models.source import identify
from plop_cli.opinions.ordering import Ordering
from plop_cli.placement.placement import Placement
from plop_cli.placement.recommend import StoredScores, recommend
from plop_cli.report.page import render_html, render_markdown
from plop_cli.report.story import tell_stored
from plop_cli.runs.grid import score_grid
from plop_cli.runs.jobs import Request
from plop_cli.runs.listing import Runs
from plop_cli.runs.opinions import of_weights, said
from plop_cli.runs.revisions import names_of
from plop_cli.runs.selection import newest_first
from plop_registry import Registry, Run

AnyRegistry = Registry | str | Path | None


@notebook_bar()
def score_model(
    model: str, task: str, *, registry: AnyRegistry = None, loading: Loading = Loading(), **options: Any
) -> Run:
    """The run of a model on a task (`plop score MODEL --task TASK`): from the registry, else scored and stored now.

    Args:
        model: a hub id, a folder, a .gguf file, or `demo`.
        task: a built-in task, a file, or a hub data set.
        loading: how the model is loaded: dtype, device, adapter, quantization, offloading.
        options: `samples`, `max_length`, `batch_tokens`, `seed`, `chat`, `column`, `template`, `include`, `force`,
            `until`, as the fields of `runs.jobs.Request`.

    Raises PlopError for a model or a task that cannot be scored; RegistryError where the run cannot be stored.
    """
    request = Request(loading=loading, **options)
    with _opened(registry) as store:
        (cell,) = score_grid([model], [task], request, store)
    if cell.run is None or cell.error:
        raise PlopError(cell.error or f"{model} on {task} has no run")
    return cell.run


def recommend_runs(*runs: str, registry: AnyRegistry = None, **choice: Any) -> Placement:
    """The placement that stored runs recommend (`plop recommend --run RUN`); of several tasks the mean counts.

    Args: `choice`, the keywords of `recommend`: `types`, `rank`, `match`, `budget`, `model` and so on.

    Raises RegistryError where there is no such run, PlopError for what `recommend` refuses.
    """
    with _opened(registry) as store:
        stored = [store.get(reference) for reference in runs]
        scores = [StoredScores(run, store.matrix(run.id)) for run in stored]
    return recommend(scores, **choice)


def second_opinions(
    model: str, *, registry: AnyRegistry = None, loading: Loading = Loading(), force: bool = False
) -> dict[str, Ordering]:
    """By method, the types that others would adapt by the weights alone, best first (`plop opinions MODEL`).

    From the registry, else computed and stored now; `force` computes them anew. `opinions.methods.METHODS` says who
    they are: "kappa", "snr", "stable-rank", "effective-rank", "alpha", "hill".

    Raises PlopError for a model that cannot be loaded, or has no weights to look at.
    """
    with _opened(registry) as store:
        source = names_of(model, identify(model, loading), loading, store)[0]
        all_said, _ = said(of_weights(source, loading, store, anew=force))
        return {each.order.method.key: each.order for each in all_said}


def compare_runs(
    *runs: str, by: str | None = None, baseline: str | None = None, registry: AnyRegistry = None, **filters: Any
) -> Comparison:
    """Stored runs side by side (`plop compare`): those named, or the newest on each `by` of those that fit.

    Args:
        by: "model", "task", "revision" or "dtype", together with filters instead of `runs`.
        baseline: what the others are compared to: a run, or the name of its column; default the first.

    Raises PlopError and RegistryError for runs that do not exist or that do not compare.
    """
    with _opened(registry) as store:
        comparison, _ = compare_stored(store, runs, by=by, baseline=baseline, **filters)
    return comparison


def list_runs(*, limit: int | None = 20, registry: AnyRegistry = None, **filters: Any) -> Runs:
    """Stored runs, newest first (`plop history`): the newest `limit` that fit the filters, all of them for None.

    There may be none. Raises RegistryError for a registry that cannot be read.
    """
    with _opened(registry) as store:
        return Runs(tuple(newest_first(store.runs(limit=limit, **filters))))


def write_report(
    path: str | Path, *runs: str, title: str = "", force: bool = False, registry: AnyRegistry = None, **filters: Any
) -> Path:
    """Write a report of stored runs (`plop report -o PATH`): those named, or all that fit the filters.

    Args: `path` ends in .html, or in .md for Markdown; `force` overwrites it.

    Raises PlopError and RegistryError for runs that do not exist and for a file that cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".html", ".md"):
        raise PlopError(f"{path} is neither .html nor .md; give one of them (plop report writes pictures)")
    check_new(path, force=force)
    with _opened(registry) as store:
        story = tell_stored(store, runs, **filters)
    render = render_html if path.suffix == ".html" else render_markdown
    write(path, render(story, written=datetime.now(UTC), command="plop_cli.write_report", title=title).encode())
    return path


@contextmanager
def _opened(registry: AnyRegistry) -> Iterator[Registry]:
    """The registry; what was opened here is closed again."""
    if isinstance(registry, Registry):
        yield registry
    else:
        with Registry(registry) as opened:
            yield opened
