"""A run as one line of text, to travel between registries: canonical JSON with the packed matrix in base64."""

from __future__ import annotations

import base64

from plop_registry.errors import RegistryError
from plop_registry.matrix import SampleMatrix
from plop_registry.runs import Run, canonical, id_of

FORMAT = 1


def to_line(run: Run, packed: bytes) -> str:
    """The same run gives the same line everywhere: the matrix travels as the bytes that are stored."""
    matrix = base64.b64encode(packed).decode("ascii")
    return canonical({"format": FORMAT, "run_id": run.id, **run.content(), **run.remarks(), "matrix": matrix})


def from_line(line: str) -> tuple[Run, str, bytes]:
    """The run, the hash of its matrix and the packed matrix; RegistryError saying what is wrong with a damaged line.

    The line is checked from the outside in: types and ranges, then the id, then each part against the others.
    """
    from plop_registry.verify import problems
    from plop_registry.wire import read

    content = read(line)
    try:
        packed = base64.b64decode(content["matrix"], validate=True)
        run = Run.from_content(content, content["run_id"])
        sha256 = SampleMatrix.unpack(packed, (run.samples, len(run.modules))).sha256()
        if run.id != id_of(run.content(), sha256):
            raise RegistryError("the id does not match the content")
    except (ArithmeticError, ValueError) as error:
        raise RegistryError("not an exported run") from error
    for problem in problems(run, (sha256, packed)):
        raise RegistryError(f"the run contradicts itself: {problem}")
    return run, sha256, packed
