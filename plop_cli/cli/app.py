"""The command line: a module for each command, which parses, calls and prints. Nothing here computes.

Commands import what they need when they run, so that `plop --help` and `plop history` do not wait for torch.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from plop_cli.cli import streams
from plop_cli.cli.console import fail, say, silence, warnings_of
from plop_cli.cli.groups import Commands, Lazily
from plop_cli.cli.settings import defaults, origin_of, settings
from plop_cli.cli.status import status_line
from plop_cli.errors import PlopError
from plop_cli.hub import Line, through
from plop_cli.processes import rank
from plop_cli.version import __version__
from plop_registry import RegistryError

_GRACE = 2.0
"""Seconds."""


@contextmanager
def _behind_the_first() -> Iterator[None]:
    """Says nothing, and does not fail before the first process could say why: torchrun would end that one too."""
    with silence():
        try:
            yield
        except typer.Exit as end:
            if end.exit_code:
                time.sleep(_GRACE)
            raise


_INSTEAD = {
    **dict.fromkeys(("ls", "list", "runs", "log"), "plop history"),
    **dict.fromkeys(("delete", "del", "remove"), "plop rm"),
    **dict.fromkeys(("diff", "cmp"), "plop compare"),
    **dict.fromkeys(("run", "eval", "measure"), "plop score"),
    **dict.fromkeys(("info", "cat", "get", "view"), "plop show"),
    **dict.fromkeys(("help", "man", "usage"), "plop --help"),
    **dict.fromkeys(("datasets", "presets"), "plop tasks"),
    **dict.fromkeys(("backup", "status", "upgrade", "path", "migrate"), "plop registry"),
    "version": "plop --version",
    "load": "plop import",
    "save": "plop export",
    "html": "plop report",
}
"""What people type who have other programs in their fingers."""


_COMMANDS: Mapping[str, Sequence[str]] = {
    "Where adapters go": ("score", "recommend", "check", "race", "opinions"),
    "What was scored": ("history", "show", "compare", "report", "export", "import", "rm", "registry"),
    "plop itself": ("tasks", "env", "doctor"),
}
"""By their panels, in the order of the help, which is that of use."""


class _Boundary(TyperGroup):
    """Turns what a user can mend into one line on stderr and exit 1; bugs keep their traceback.

    Of several processes (torchrun) only the first speaks.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Lazily(_COMMANDS)  # type: ignore[assignment]  # nothing is ever added

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for argument in args:
            if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
                ctx.fail(f"{argument!a} is no UTF-8 text; rename the file, or mend the argument")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in _INSTEAD:
            ctx.fail(f"there is no command {args[0]!r}; did you mean {_INSTEAD[args[0]]!r}?")
        return super().resolve_command(ctx, args)

    def _settings(self, given: Sequence[str]) -> Mapping[str, Any]:
        """What is set. What is broken keeps neither help nor those from their work that say what is wrong."""
        try:
            return settings(self)
        except PlopError:
            if given[:1] in (["env"], ["doctor"]) or {"-h", "--help"} & {*given}:
                return {}
            raise

    def invoke(self, ctx: Any) -> Any:
        alone = _behind_the_first() if rank() else nullcontext()
        with alone, status_line(), through(Line()), warnings_of("plop_registry"):
            try:
                found = self._settings([*ctx._protected_args, *ctx.args])
                ctx.default_map = defaults(found)
                return super().invoke(ctx)
            except typer.BadParameter as error:
                if origin := origin_of(error, found):
                    error.message += f" (set in {origin})"
                raise
            except (PlopError, RegistryError) as error:
                fail(error)
                raise typer.Exit(1) from None


app = Commands(
    cls=_Boundary,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"plop {__version__}")
        raise typer.Exit


@app.callback(epilog="PLoP: Hayou, Ghosh, Yu, Precise LoRA Placement, arXiv 2506.20629.")
def _plop(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Where should LoRA adapters go? Score a model's modules on your task's own texts, and put LoRA into the lowest."""


def main() -> None:
    """The `plop` command."""
    # The libraries' own progress bars would break ours, and speak where stderr is no terminal; so do their warnings.
    os.environ.setdefault("TQDM_DISABLE", "1")
    for library in ("accelerate", "bitsandbytes", "torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
    for name in ("SIGTERM", "SIGHUP"):  # what is to be tidied up is, then as if it had been killed
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        streams.prepare()
        if sys.flags.optimize > 1:
            raise PlopError("altair and transformers need docstrings; unset $PYTHONOPTIMIZE, and leave out -OO")
        try:
            app()
        finally:
            sys.stdout.flush()
    except PlopError as error:  # of the streams: what commands raise is said by the boundary
        fail(error)
        if sys.stdout:
            streams.give_up()
        sys.exit(1)
