"""`plop race`: the candidates trained briefly, equally large, on your own data, and which is better."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from plop_cli.cli import completion, options, panels
from plop_cli.cli.console import err, is_quiet, note
from plop_cli.cli.filters import RegistryOption
from plop_cli.cli.formats import Format, FormatOption, emit
from plop_cli.cli.groups import expanding
from plop_cli.models.options import Loading
from plop_cli.processes import rank as own_rank
from plop_cli.racing.watch import Watch
from plop_cli.words import counted
from plop_registry import Entry, Lap

if TYPE_CHECKING:
    from rich.live import Live


@expanding(loading=options.loading)
def race(
    *,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.models,
            help="As for [bold]plop score[/bold].",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        panels.what(
            "--data",
            help="What to train on: a file, org/name on the hub, or -. Questions and answers, prompts and completions, "
            "instructions, conversations or texts.",
            show_default=False,
        ),
    ],
    test: Annotated[
        str | None, panels.what("--test", help="What to test on. Default: a tenth of --data, which is not trained on.")
    ] = None,
    contestants: Annotated[
        str,
        panels.what(
            metavar="NAME,...",
            help="plop, plop-1, attn, mlp, all, another method (kappa, snr, alpha), types (q_proj+v_proj), an "
            "adapter_config.json, a stored run.",
        ),
    ] = "plop,mlp,attn,all",
    match: Annotated[
        str | None,
        panels.adapters(metavar="STRATEGY:RANK", help="All as large as this. Default: MLP at rank 8 or what follows."),
    ] = None,
    budget: Annotated[
        str | None, panels.adapters(metavar="PARAMETERS", help="As large as fits within these: 20M, 500K.")
    ] = None,
    rank: Annotated[int | None, panels.adapters("--rank", "-r", min=1, help="The same rank for all instead.")] = None,
    steps: Annotated[int, panels.training(min=1, help="Of each lap.")] = 60,
    batch: Annotated[int, panels.training(min=1, help="Examples a step.")] = 8,
    seeds: Annotated[int, panels.training(min=1, help="Laps of each contestant at its learning rate.")] = 3,
    rates: Annotated[str, panels.training(help="Learning rates to tune over, or one.")] = "1e-4..2e-3",
    minutes: Annotated[float | None, panels.training(help="Begin no lap after these.")] = None,
    dropout: Annotated[float, panels.adapters(help="Of the adapters.")] = 0.0,
    max_length: Annotated[int, panels.training(min=2, help="Tokens per example; longer ones are cut.")] = 512,
    tested: Annotated[int, panels.training(min=2, help="Test examples at most.")] = 200,
    format: FormatOption = Format.table,
    loading: Loading,
    registry: RegistryOption = None,
) -> None:
    """Race placements: train each briefly on your own data, and say which is better, by how much, or that it cannot be
    told.

    Each finished lap is stored, so the same command goes on where it was stopped, and a seed more is only that seed.

    Example: [bold]plop race demo --data train.jsonl --seeds 3 --minutes 30[/bold]
    """
    from plop_cli.placement.ranks import parse_count
    from plop_cli.processes import join
    from plop_cli.racing.contestants import listed
    from plop_cli.racing.start import Asked, start
    from plop_cli.tables.race import race_document, race_rows, race_table
    from plop_registry import Registry

    asked = Asked(
        model=model,
        data=data,
        test=test,
        contestants=tuple(listed(contestants)),
        rank=rank,
        match=match,
        budget=None if budget is None else parse_count(budget),
        steps=steps,
        batch=batch,
        dropout=dropout,
        seeds=seeds,
        rates=rates,
        minutes=minutes,
        max_length=max_length,
        tested=tested,
        loading=loading,
    )
    with Registry(registry) as store, _watching() as watch:
        try:
            outcome = start(asked, store, watch=watch, join=join)
        except KeyboardInterrupt:
            note("stopped; finished laps are stored, and the same command goes on from there")
            raise typer.Exit(130) from None
    if own_rank() == 0:
        emit(
            format,
            table=lambda width: race_table(outcome, width=width),
            document=lambda: race_document(outcome),
            rows=lambda: race_rows(outcome),
        )


@contextmanager
def _watching() -> Iterator[Watch]:
    """What shows the laps: a live table on a terminal, a line for each elsewhere, nothing where nobody wants it."""
    console = err()
    if is_quiet() or not console.is_terminal:
        yield _Lines()
        return
    from rich.live import Live

    with Live(console=console, transient=True, refresh_per_second=4) as live:
        yield _Table(live)


class _Lines(Watch):
    """Notes, and a line for each lap."""

    def __init__(self) -> None:
        self._laps = self._done = self._steps = self._stepped = 0
        self._seconds, self._began = 0.0, time.monotonic()

    def note(self, text: str) -> None:
        note(text)

    def estimate(self, seconds: float, laps: int, steps: int) -> None:
        self._laps, self._steps, self._seconds, self._began = laps, steps, seconds, time.monotonic()
        less = "fewer where somebody drops out, more where the best learning rate is at an end of the grid"
        self.note(f"{counted(laps, 'lap')} to run, about {_duration(seconds)}; {less}")

    def finish(self, entry: Entry, lap: Lap) -> None:
        self._count(lap)
        tested = f", test loss {lap.test.mean():.4f}" if len(lap.test) else ""
        loss = "diverged" if lap.diverged else f"loss {lap.train[-1]:.4f}{tested}"
        what = f"{entry.name}, rate {lap.rate:g}, seed {lap.seed}, {lap.steps} steps"
        self.note(f"lap {self._done} of {max(self._laps, self._done)}: {what}: {loss}")

    def _count(self, lap: Lap) -> None:
        self._done, self._stepped = self._done + 1, self._stepped + lap.steps

    def drop(self, entry: Entry) -> None:
        self.note(f"{entry.name} is behind beyond chance, and drops out")

    @property
    def left(self) -> str:
        """The time that is left: by the pace so far, before the first lap is run by the estimate."""
        past = time.monotonic() - self._began
        if not self._stepped:
            return _duration(max(0.0, self._seconds - past))
        return _duration(past * max(0, self._steps - self._stepped) / self._stepped)


class _Table(_Lines):
    """The contestants as they run, with their losses as sparklines."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live
        self._rows: dict[str, dict[str, str]] = {}

    def note(self, text: str) -> None:
        self._live.console.print(f"note: {text}", markup=False, highlight=False)

    def begin(self, entry: Entry, rate: float, seed: int, steps: int) -> Callable[[int, float], None]:
        from plop_cli.tables.race import sparkline

        losses: list[float] = []

        def step(number: int, loss: float) -> None:
            losses.append(loss)
            self._show(
                entry,
                rate=f"{rate:g}",
                seed=str(seed),
                step=f"{number}/{steps}",
                loss=sparkline(losses),
                now=f"{loss:.4f}",
            )

        return step

    def finish(self, entry: Entry, lap: Lap) -> None:
        self._count(lap)
        if len(lap.test):
            self._show(entry, tested=f"{lap.test.mean():.4f}")

    def _show(self, entry: Entry, **cells: str) -> None:
        from plop_cli.tables.race import lap_table

        empty = dict.fromkeys(("name", "rate", "seed", "step", "loss", "now", "tested"), "")
        self._rows[entry.name] = {**self._rows.get(entry.name, empty), "name": entry.name, **cells}
        number = self._done + ("tested" not in cells)  # a lap that has been tested is done
        title = f"lap {number} of {max(self._laps, number)}, about {self.left} left"
        self._live.update(lap_table(self._rows.values(), title))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
