"""What it costs to hash weights that the system's cache holds, against reading them: medians of interleaved runs.

    python benchmarks/hashing.py [--gigabytes 4] [--files 1] [--repeats 5] [--folder DIR]

The files are random, and written first. Hashing is bound by the cores, and `cat` by one of them: two threads of one
core hash as one does.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from plop_cli.models import fingerprints

_BLOCK = 1 << 26


def written(folder: Path, size: int, files: int) -> list[Path]:
    """So many random files, of so many bytes together."""
    paths = [folder / f"model-{number:05}.safetensors" for number in range(1, files + 1)]
    for path in paths:
        with path.open("wb") as stream:
            for start in range(0, size // files, _BLOCK):
                stream.write(os.urandom(min(_BLOCK, size // files - start)))
    return paths


def sha256(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are written; default: the system's own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        paths = written(folder, int(options.gigabytes * 1e9), options.files)
        nowhere = patch.object(
            fingerprints, "user_cache_path", lambda name: Path(os.devnull, name)
        )  # none is remembered
        ways: dict[str, Callable[[], object]] = {
            "cat > /dev/null": lambda: subprocess.run(["sh", "-c", f"cat {folder}/* > /dev/null"], check=True),
            "SHA-256, as before": lambda: sha256(paths),
            "plop": lambda: fingerprints.hash_files(paths, folder),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        with nowhere:
            ways["cat > /dev/null"]()
            for _ in range(options.repeats):
                for name, run in ways.items():
                    started = time.perf_counter()
                    run()
                    seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{options.gigabytes:g} GB in {options.files} files, {os.cpu_count()} cores")
    for name, median in medians.items():
        ratio = median / medians["cat > /dev/null"]
        print(f"{name:20} {median:6.2f} s {options.gigabytes / median:6.2f} GB/s {ratio:6.2f} × cat")


if __name__ == "__main__":
    main()
