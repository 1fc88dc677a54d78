"""A run as one line of text, to travel between registries: canonical JSON with the packed matrix in base64."""

from __future__ import annotations

import base64
import json

from plop_registry.errors import RegistryError
from plop_registry.matrix import SampleMatrix
from plop_registry.runs import Run, canonical, id_of

FORMAT = 1


def to_line(run: Run, packed: bytes) -> str:
    """The same run gives the same line everywhere: the matrix travels as the bytes that are stored."""
    matrix = base64.b64encode(packed).decode("ascii")
    return canonical({"format": FORMAT, "run_id": run.id, **run.content(), "matrix": matrix})


def from_line(line: str) -> tuple[Run, str, bytes]:
    """The run, the hash of its matrix and the packed matrix; RegistryError saying what is wrong with a damaged line."""
    try:
        content = json.loads(line)
        if content["format"] != FORMAT:
            raise RegistryError("written by another plop; pip install --upgrade plop-cli")
        packed = base64.b64decode(content["matrix"], validate=True)
        matrix, run = SampleMatrix.unpack(packed), Run.from_content(content, content["run_id"])
        sha256 = matrix.sha256()
        if run.id != id_of(run.content(), sha256):
            raise RegistryError("the id does not match the content")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RegistryError("not an exported run") from error
    return run, sha256, packed
