"""`plop report`: runs as one HTML file to send around, as Markdown, or as figures."""

from __future__ import annotations

import os
import shlex
import webbrowser
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plop_cli.cli import completion, panels
from plop_cli.cli.console import say
from plop_cli.cli.filters import Filters, Limit, RegistryOption
from plop_cli.cli.filters import filters as filter_options
from plop_cli.cli.groups import expanding
from plop_cli.cli.options import Overwrite
from plop_cli.errors import PlopError

if TYPE_CHECKING:
    from plop_cli.report.story import Story


class Format(StrEnum):
    html = "html"
    md = "md"
    png = "png"
    svg = "svg"
    pdf = "pdf"


class Theme(StrEnum):
    auto = "auto"
    light = "light"
    dark = "dark"


@expanding(filters=filter_options)
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=completion.runs,
            help="Ids, their first digits, [bold]latest[/bold], or MODEL/TASK. Default: all that fit the filters.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        panels.output(
            "--output", "-o", help="Default: report.html, report.md, or the folder figures.", show_default=False
        ),
    ] = None,
    format: Annotated[
        Format | None,
        panels.output("--format", "-f", help="png, svg and pdf write each figure into a folder.", show_default="html"),
    ] = None,
    title: Annotated[str, panels.output(help="Default: the model and the task, or how many.")] = "",
    theme: Annotated[Theme, panels.output(help="auto is light or dark as the reader's system is.")] = Theme.auto,
    open: Annotated[bool, panels.output("--open", help="Show it in the browser.")] = False,
    *,
    filters: Filters,
    limit: Limit = None,
    overwrite: Overwrite = False,
    registry: RegistryOption = None,
) -> None:
    """Write what runs say into one file: what to adapt, how sure, the NFN-maps, how models, tasks and times differ.

    It needs no network, so it can be mailed, or opened years later. Without RUN or filters it has the whole registry.

    Example: [bold]plop report --model demo -o report.html --open[/bold]
    """
    from plop_cli.report.story import tell
    from plop_cli.runs.selection import find_runs
    from plop_registry import Registry

    given = {name: value for name, value in {**filters, "limit": limit}.items() if value is not None}
    if runs and given:
        raise PlopError(f"RUN and --{next(iter(given))} cannot both choose; give one of them")
    if format is None:
        format = Format.md if output and output.suffix == ".md" else Format.html
    path = output or Path({Format.html: "report.html", Format.md: "report.md"}.get(format, "figures"))
    _check(path, format, overwrite=overwrite)
    with Registry(registry) as store:
        chosen = [store.get(run) for run in runs] if runs else find_runs(store, filters, limit=limit)[::-1]
        story = tell(list({run.id: run for run in chosen}.values()), store, types=filters["type"] or "*")

    looks = {} if theme is Theme.auto else {"theme": theme.value}
    command = shlex.join(["plop", "report", *(runs or []), *_words({**given, "title": title, **looks})])
    _write(story, path, format, command=command, title=title, theme=theme, overwrite=overwrite)
    say(str(path))
    if open:
        webbrowser.open(path.resolve().as_uri())


def _check(path: Path, format: Format, *, overwrite: bool) -> None:
    """What can be wrong is said before the work."""
    from plop_cli import files

    _now()
    if format in (Format.html, Format.md):
        files.check_new(path, force=overwrite)
    elif path.suffix == f".{format.value}":
        raise PlopError(f"{path} cannot hold all figures; give a folder, such as -o {path.stem}")


def _write(
    story: Story, path: Path, format: Format, *, command: str, title: str, theme: Theme, overwrite: bool
) -> None:
    from plop_cli import files
    from plop_cli.report import page

    if format is Format.html:
        rendered = page.render_html(story, written=_now(), command=command, title=title, theme=theme.value)
        files.write(path, rendered.encode())
    elif format is Format.md:
        files.write(path, page.render_markdown(story, written=_now(), command=command, title=title).encode())
    else:
        files.write_all(path, page.pictures(story, format.value), force=overwrite)


def _now() -> datetime:
    """Now, or what $SOURCE_DATE_EPOCH says, so that the same runs give the same bytes."""
    try:
        return datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    except KeyError:
        return datetime.now(UTC)
    except (ValueError, OverflowError, OSError):  # no number, or one that is in no calendar
        raise PlopError("$SOURCE_DATE_EPOCH is no number of seconds; mend or unset it") from None


def _words(options: Mapping[str, Any]) -> Iterator[str]:
    """Options as the command line takes them; where the report was written to is nobody's business."""
    for name, value in options.items():
        if value:
            yield from (f"--{name}", value.isoformat() if isinstance(value, datetime) else str(value))
