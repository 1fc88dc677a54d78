"""`plop check`: does a trainer's config adapt what its author thinks?"""

from __future__ import annotations

import shlex
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plop_cli.cli import completion, options, panels
from plop_cli.cli.console import note, out, print_json
from plop_cli.errors import PlopError
from plop_cli.models.options import Loading
from plop_cli.progress import says

if TYPE_CHECKING:
    from plop_cli.checking.body import Body
    from plop_cli.checking.wanted import Wanted


class Format(StrEnum):
    table = "table"
    json = "json"
    md = "md"


class Server(StrEnum):
    vllm = "vllm"
    sglang = "sglang"


def check(
    configs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG",
            help="An adapter or its adapter_config.json; the YAML, flags or Python file of a trainer; flags after --.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        panels.what(
            "--model",
            "-m",
            autocompletion=completion.models,
            help="As everywhere; a config.json is enough. Default: what CONFIG names.",
        ),
    ] = None,
    trainer: Annotated[str | None, panels.what("--trainer", help="Whose config it is. Default: found out.")] = None,
    targets: Annotated[str | None, panels.what(metavar="NAME,...", help="Targets by hand instead of CONFIG.")] = None,
    target_regex: Annotated[str | None, panels.what(metavar="REGEX", help="A regex instead.")] = None,
    all_linear: Annotated[bool, panels.what("--all-linear", help="PEFT's all-linear instead.")] = False,
    rank: Annotated[int, panels.what("--rank", "-r", min=1, help="Of targets by hand.")] = 16,
    serve: Annotated[list[Server] | None, panels.what("--serve", help="What shall load it; repeatable.")] = None,
    strict: Annotated[bool, panels.output("--strict", help="Exit 3 where there are warnings.")] = False,
    fix: Annotated[bool, panels.output("--fix", help="Write CONFIG anew, mended; with -o.")] = False,
    output: Annotated[
        Path | None, panels.output("--output", "-o", metavar="FILE", help="Where --fix writes.", show_default=False)
    ] = None,
    force: Annotated[bool, panels.output("--force", help="Overwrite FILE.")] = False,
    format: Annotated[Format, panels.output("--format", "-f", help="How to print it.")] = Format.table,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Say what CONFIG really adapts in MODEL: dead names, missed layers, what stays frozen, what PEFT refuses.

    No weights are read. Exits 1 where it will fail or adapt nothing.

    Example: [bold]plop check adapter_config.json --model meta-llama/Llama-3.1-8B --serve vllm[/bold]
    """
    by_hand = [text for text in (targets, target_regex, "all-linear" if all_linear else None) if text is not None]
    if len(by_hand) + bool(configs) != 1:
        raise typer.BadParameter("give CONFIG, --targets, --target-regex or --all-linear", param_hint="CONFIG")
    if fix != (output is not None):
        raise typer.BadParameter("--fix writes a FILE (-o), and nothing else does", param_hint="--fix")
    says("importing torch and transformers")
    from plop_cli import files
    from plop_cli.checking.body import body_of
    from plop_cli.checking.check import checked, model_of
    from plop_cli.checking.fix import fixed
    from plop_cli.tables.check import check_markdown, check_table

    wanted = _by_hand(by_hand[0], rank, names=targets is not None) if by_hand else _of_configs(configs or [], trainer)
    if output:
        if len(wanted) > 1:
            raise PlopError(f"--fix writes one config, and these are {len(wanted)}; give one")
        files.check_new(output, force=force)
    loading = Loading(revision=revision, trust_remote_code=trust_remote_code)

    @cache
    def body(name: str) -> Body:
        return body_of(model_of(name, loading))

    named = [(one, _model(one, model)) for one in wanted]
    results = [checked(one, body(name), name=name, serve=[s.value for s in serve or ()]) for one, name in named]
    if format is Format.json:
        documents = [result.to_dict() for result in results]
        print_json(documents[0] if len(documents) == 1 else documents)
    for result in results if format is not Format.json else ():
        if format is Format.md:
            typer.echo(check_markdown(result))
        else:
            out().print(check_table(result))
    if output:
        files.write(output, fixed(wanted[0], body(named[0][1])).encode())
        note(f"{output} is written")
    if any(result.failed for result in results):
        raise typer.Exit(1)
    if strict and any(result.warned for result in results):
        raise typer.Exit(3)


def _by_hand(targets: str, rank: int, *, names: bool) -> list[Wanted]:
    from plop_cli.checking.wanted import Wanted

    given = tuple(name.strip() for name in targets.split(",") if name.strip()) if names else targets
    return [Wanted(source="--targets" if names else targets, format="targets", targets=given, rank=rank)]


def _of_configs(words: list[str], trainer: str | None) -> list[Wanted]:
    """Files and folders, up to where a command of TRL's or ms-swift's begins, or a flag."""
    from plop_cli.checking import flags
    from plop_cli.checking.read import read

    start = next((i for i, word in enumerate(words) if word.startswith("--") or word in ("trl", "swift")), len(words))
    found = [one for word in words[:start] for one in read(word, trainer)]
    return found + ([flags.read("the flags", shlex.join(words[start:]), trainer)] if words[start:] else [])


def _model(wanted: Wanted, model: str | None) -> str:
    if name := model or wanted.base:
        return name
    raise PlopError(f"{wanted.source} does not say what model it is for; give --model MODEL")
