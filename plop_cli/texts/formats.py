"""Which files hold texts, told by their names. Nothing is imported: commands that read no text ask too."""

from __future__ import annotations

from pathlib import Path

FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".json", ".txt")
"""What is read, by its suffix; of a folder the first format that it holds."""

COMPRESSED = (".gz", ".zst")
"""The last suffix of a compressed file."""


def format_of(path: Path) -> str:
    """The format that the file's name tells, "" where it tells none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else ""
