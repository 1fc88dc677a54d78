"""Settings that stay: `plop.toml` or `[tool.plop]` of pyproject.toml, the user's own file, and `$PLOP_…`.

A key is an option's long name. At the top it is meant for every command that has such an option, in the table of a
command for that one. The command line wins over the environment, that over the project's file, that over the user's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from plop_cli.errors import PlopError

GUARDED = ("allow_pickle", "fix", "force", "output", "overwrite", "registry", "trust_remote_code")
"""What a project's file may not say: it can come with a folder that somebody else made."""

_FILTERS = ("model", "task", "revision", "since", "until", "type", "name", "note")
"""Where these choose among stored runs, they mean something else than to `plop score`, and are for that table alone."""

_LARGEST = 2**20
"""Bytes of a file of settings; a real one has a few hundred."""

Options = Mapping[str, Any]
"""The options of a command by their long names, with _ for -; those of a group's command are in a mapping of it."""


@dataclass(frozen=True)
class Setting:
    """A value, as the command line would have it, and what it comes from."""

    value: Any
    origin: str


def settings(group: Any) -> dict[str, Any]:
    """What is set for each command of a typer group, by its parameters' names. PlopError for what is no setting."""
    files = list(_files())
    if not files and not any(name.startswith("PLOP_") for name in os.environ):
        return {}  # without a look at the commands, which would import them
    options = options_of(group)
    found = _blank(options)
    for path, table, ours in files:
        _read(table, options, {}, found, _File(path, ours))
    _environment(options, found)
    _mistaken(named(options))
    return found


def defaults(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same as click's `default_map`."""
    return {name: each.value if isinstance(each, Setting) else defaults(each) for name, each in found.items()}


def origin_of(error: Any, found: Mapping[str, Any]) -> str | None:
    """Where the value lies that click complains about; None where it was given on the command line."""
    context, option = error.ctx, error.param
    if context is None or option is None or context.get_parameter_source(option.name).name != "DEFAULT_MAP":
        return None
    for name in context.command_path.split()[1:]:
        found = found.get(name, {})
    setting = found.get(option.name)
    return setting.origin if setting else None


@dataclass(frozen=True)
class _File:
    path: Path
    ours: bool

    def refuse(self, key: str, why: str) -> PlopError:
        return PlopError(f"{self.path}: {key} {why}")


def options_of(group: Any) -> dict[str, Any]:
    """What can be set: the options of each command of a typer group by their long names, with _ for -."""
    return {
        name: options_of(command)
        if hasattr(command, "commands")
        else {
            _long(option): option
            for option in command.params
            # What is deleted is said each time.
            if option.param_type_name == "option" and (name != "rm" or option.name == "registry")
        }
        for name, command in group.commands.items()
    }


def _long(option: Any) -> str:
    return str(next(name for name in option.opts if name.startswith("--"))[2:].replace("-", "_"))


def _blank(options: Options) -> dict[str, Any]:
    return {name: _blank(each) for name, each in options.items() if _is(each)}


def _is(each: Any) -> bool:
    return isinstance(each, dict)


def _read(table: Mapping[str, Any], options: Options, above: Mapping[str, Any], found: Any, file: _File) -> None:
    """Set what a table says for the commands in it; `above` is what the tables around it said."""
    commands = {name: each for name, each in options.items() if _is(each)}
    inside = {name: each for name, each in table.items() if _is(each) and name in commands}
    own = {name.replace("-", "_"): each for name, each in table.items() if name not in inside}
    known = named(options)
    for key, value in own.items():
        if key in commands and key not in known:
            raise file.refuse(key, f"is a command; write its options below [{key}]")
        if key not in known:
            raise file.refuse(key, f"is no setting{_nearest(key, {*known, *commands})}")
        if key in GUARDED and not file.ours:
            raise file.refuse(key, "is not for a project's file; give it on the command line or in your own settings")
        for option in known[key]:
            _text(key, value, option, file)
        if refused := _refusal(value, known[key]):
            raise file.refuse(key, refused)
    said = {**{name: each for name, each in above.items() if not _filters(name, options)}, **own}
    for name, each in options.items():
        if _is(each):
            _read(inside.get(name, {}), each, said, found[name], file)
        elif name in own or (name in said and _takes(each, said[name])):
            found[each.name] = Setting(_text(name, said[name], each, file), str(file.path))


def named(options: Options) -> dict[str, list[Any]]:
    """All options of these commands, each with those that are called so."""
    names: dict[str, list[Any]] = {}
    for name, each in options.items():
        for key, some in (named(each) if _is(each) else {name: [each]}).items():
            if not (_is(each) and _filters(key, each)):
                names.setdefault(key, []).extend(some)
    return names


def _filters(name: str, options: Options) -> bool:
    return name in _FILTERS and "since" in options


def _nearest(key: str, names: Any) -> str:
    if key in _FILTERS:
        return " for all commands; write it into the table of one, such as [history]"
    near = get_close_matches(key, sorted(names), 1)
    return f"; did you mean {near[0]}?" if near else "; plop COMMAND --help lists the options"


def _text(key: str, value: Any, option: Any, file: _File) -> Any:
    """What stands for a value on the command line."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise file.refuse(key, f"is {json.dumps(value, default=str)}; give true or false")
        return value
    several = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not option.multiple:
        raise file.refuse(key, "takes one value, not a list")
    if not all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in several):
        raise file.refuse(key, f"is {json.dumps(value, default=str)}; give a text or a number")
    return [str(each) for each in several] if option.multiple else str(value)


def _choices(option: Any) -> list[str]:
    """What may be said for an option that is a choice; typer keeps it in one of two places, by its version."""
    of = getattr(option, "type_descriptor", None) or option.type
    return [str(getattr(choice, "value", choice)) for choice in getattr(of, "choices", None) or ()]


def _takes(option: Any, value: Any) -> bool:
    """What is meant for all commands is not for those that have the option with other choices: `--format csv`."""
    choices = _choices(option)
    return not choices or {*map(str, value if isinstance(value, list) else str(value).split())} <= {*choices}


def _refusal(value: Any, options: Sequence[Any]) -> str | None:
    """Why none of these can have the value, where they are choices."""
    if any(_takes(option, value) for option in options):
        return None
    choices = dict.fromkeys(choice for option in options for choice in _choices(option))
    return f"is {json.dumps(value, default=str)}; give one of {', '.join(choices)}"


def variable_of(name: str, options: Options) -> str | None:
    """The environment variable that sets this of a command's options; None where it chooses among stored runs."""
    return None if _filters(name, options) else f"PLOP_{name.upper()}"


def _environment(options: Options, found: Any) -> None:
    for name, option in options.items():
        if _is(option):
            _environment(option, found[name])
        elif (variable := variable_of(name, options)) and (value := os.environ.get(variable)):
            if name == "registry":  # the registry itself asks for it
                found.pop(option.name, None)
            elif _takes(option, said := value.split() if option.multiple else value):
                found[option.name] = Setting(said, f"${variable}")


def _mistaken(known: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a variable that no command can have, or that is nearly an option's; what is like none may be another's."""
    for name, some in known.items():
        if (value := os.environ.get(f"PLOP_{name.upper()}")) and (why := _refusal(value, some)):
            raise PlopError(f"$PLOP_{name.upper()} {why}")
    names = sorted(name.upper() for name in known)
    for variable in sorted(os.environ):
        name = variable.removeprefix("PLOP_")
        if name != variable and name not in names and os.environ[variable]:
            for near in get_close_matches(name, names, 1, 0.75):
                raise PlopError(f"${variable} is no setting; did you mean $PLOP_{near}? Else unset it")


def _files() -> Iterator[tuple[Path, Mapping[str, Any], bool]]:
    """The user's file, then the project's: the nearest upwards."""
    from platformdirs import user_config_path

    try:
        here = Path.cwd()
        user = user_config_path("plop") / "plop.toml"
    except (OSError, RuntimeError):  # neither folder nor home
        return
    if user.is_file():
        yield user, _parsed(user), True
    for folder in (here, *here.parents):
        for path in (folder / "plop.toml", folder / "pyproject.toml"):
            if path != user and path.is_file():
                table = _parsed(path)
                if path.name == "pyproject.toml":
                    table = table.get("tool", {}).get("plop")
                if _is(table):
                    yield path, table, False
                    return


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)
        if path.name == "pyproject.toml" and not re.search(rb"tool\W+plop\b", raw):
            return {}  # not ours, whatever is in it
        if len(raw) > _LARGEST:
            raise PlopError(f"{path} is larger than 1 MiB; settings are not")
        import tomllib

        return tomllib.loads(raw.decode())
    except OSError as error:
        raise PlopError(f"cannot read {path} ({error.strerror}); make it readable, or remove it") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise PlopError(f"{path} is no UTF-8 at line {line}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        lines = raw.decode().split("\n")
        end = f"at line {len(lines)}, column {len(lines[-1]) + 1}"
        fact = str(error).replace("at end of document", end)
        raise PlopError(f"{path} is no TOML: {fact}; mend it") from error
