"""The weights of a trained adapter: B that is still zero, NaN, and keys that find no place in the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from plop_cli.checking.body import Body
from plop_cli.checking.wanted import Finding, Level
from plop_cli.errors import PlopError
from plop_cli.words import counted

_LORA = re.compile(
    r"(?:base_model\.model\.)?(?P<path>.+?)\.lora_(?:embedding_)?(?P<matrix>[AB])(?:\.\w+)?(?:\.weight)?"
)


def of_weights(folder: Path, body: Body) -> Iterator[Finding]:
    """What the adapter's file says; nothing where there is none. PlopError where it cannot be read."""
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        if (folder / "adapter_model.bin").is_file():
            yield Finding("note", "weights", "adapter_model.bin is pickled, and was not opened; save it as safetensors")
        return
    from safetensors import SafetensorError, safe_open

    zero: dict[str, bool] = {}
    homeless, broken = [], []
    places = set(body.names)
    try:
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118  # it is no mapping
                found = _LORA.fullmatch(key)
                tensor = weights.get_tensor(key)
                if not tensor.isfinite().all():
                    broken.append(key)
                path = found["path"] if found else key.removeprefix("base_model.model.").rpartition(".")[0]
                if re.sub(r"\.base_layer\b", "", path) not in places:
                    homeless.append(key)
                elif found and found["matrix"] == "B":
                    zero[path] = not tensor.any()
    except SafetensorError as error:
        raise PlopError(f"{file} is damaged ({error}); copy the adapter again") from error
    if broken:
        yield Finding("error", "nan", f"{counted(len(broken), 'weight')} such as {broken[0]} hold NaN or infinity")
    if homeless:
        level: Level = "warning" if zero else "error"
        yield Finding(level, "no-place", f"{counted(len(homeless), 'key')} such as {homeless[0]} find no module here")
    still = [path for path, is_zero in zero.items() if is_zero]
    if still and len(still) == len(zero):
        yield Finding("error", "untrained", "every B is zero: the adapter does nothing")
    elif still:
        yield Finding("warning", "untrained", f"{len(still)} of {len(zero)} B are zero, such as that of {still[0]}")
