"""The tutorial's notebook runs from nothing to a trained adapter, and shows what it is committed with.

With PLOP_GOLDEN=write the outputs are written anew. Numbers in pictures and tables may differ in their last digit from
machine to machine; which types, in which order, and every plain answer may not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from structure import ROOT

FILE = ROOT / "docs" / "tutorials" / "first-adapter.ipynb"
FORMS = ("image/svg+xml", "text/html", "text/plain")
"""The richest that an output has is kept, and no other."""


def results(notebook: Any) -> Iterator[tuple[str, str]]:
    """Each cell's result: its form, and what is in it."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            form = next(each for each in FORMS if each in output.data)
            yield form, output.data[form]


def tidied(notebook: Any) -> Any:
    """Results alone: no logs, no bar that is gone, no counters, each in one form."""
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [output for output in cell.outputs if output.output_type == "execute_result"]
            for output in cell.outputs:
                form = next(each for each in FORMS if each in output.data)
                output.data, output.metadata, output.execution_count = {form: output.data[form]}, {}, None
    return notebook


def told(form: str, text: str) -> list[str]:
    """What of a result is the same on all machines: the types in their order, or the whole plain text."""
    return [text] if form == "text/plain" else re.findall(r"\b[a-z]+_proj\b", re.sub(r"<style.*?</style>", "", text))


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_is_committed(tmp_path: Path) -> None:
    committed = nbformat.read(FILE, as_version=4)
    notebook = nbformat.read(FILE, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    if os.environ.get("PLOP_GOLDEN") == "write":
        nbformat.write(tidied(notebook), FILE)
        return
    assert [told(*each) for each in results(tidied(notebook))] == [told(*each) for each in results(committed)]


def test_the_notebook_is_committed_with_its_results_and_nothing_of_a_machine() -> None:
    committed = nbformat.read(FILE, as_version=4)
    forms = [form for form, _ in results(committed)]
    assert set(forms) == {*FORMS}
    assert len(FILE.read_bytes()) < 200_000
    assert not re.search(r"/(home|work|root|tmp|Users)/", FILE.read_text())
    assert tidied(nbformat.from_dict(committed)) == committed
