"""What 100 texts out of a large file cost: time and peak memory of a whole process, now and as it was before.

    python benchmarks/texts.py [--rows 1000000] [--rounds 3] [--keep FOLDER]

Before, a file was converted by `datasets` as a whole and kept in memory (JSON lines were parsed twice, for their line
numbers); now its rows are found by their places, and those that are drawn are read. Both draw the same texts. The rows
are of 40 random words; medians over the rounds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = tuple("the quick brown fox jumps over a lazy dog".split())  # noqa: SIM905

NOW = """
from plop_cli.texts.tasks import load_task
texts = load_task(sys.argv[1]).texts
"""

BEFORE = """
import hashlib, json, pathlib, tempfile, datasets, numpy
path = pathlib.Path(sys.argv[1])
kind = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}[path.suffix]
content = path.read_bytes()
if path.suffix == ".jsonl":
    for line in content.decode("utf-8", "replace").splitlines():
        json.loads(line)
datasets.disable_progress_bars()
with tempfile.TemporaryDirectory() as scratch:
    rows = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=scratch, keep_in_memory=True)
    hashlib.sha256(path.read_bytes()).hexdigest()
    texts = tuple(rows[i]["text"] for i in numpy.random.default_rng(0).permutation(len(rows)).tolist()[:100])
"""

AROUND = """
import hashlib, pathlib, re, resource, sys
{}
used = resource.getrusage(resource.RUSAGE_SELF)
peak = re.search("VmHWM:\\s+([0-9]+)", pathlib.Path("/proc/self/status").read_text())[1]
print(used.ru_utime + used.ru_stime, int(peak) / 1024, hashlib.sha256(repr(texts).encode()).hexdigest())
"""


def build(folder: Path, rows: int) -> list[Path]:
    """The same rows in every format."""
    import pyarrow as pa
    from pyarrow import parquet

    rng = random.Random(0)
    made = [{"id": i, "text": " ".join(rng.choices(WORDS, k=40)), "label": 'a"b\\n'} for i in range(rows)]
    lines, array, table, plain = (folder / f"texts{kind}" for kind in (".jsonl", ".json", ".csv", ".txt"))
    lines.write_text("".join(json.dumps(row) + "\n" for row in made))
    array.write_text(json.dumps(made))
    table.write_text("id,text,label\n" + "".join(f'{row["id"]},{row["text"]},"a""b"\n' for row in made))
    plain.write_text("".join(row["text"] + "\n" for row in made))
    columns, packed = folder / "texts.parquet", folder / "texts.jsonl.gz"
    parquet.write_table(pa.Table.from_pylist(made), columns)
    with lines.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    return [lines, array, table, plain, columns, packed]


def cost(code: str, file: Path) -> tuple[float, float, float, str]:
    """Seconds, seconds of a core, MB, and a hash of the texts."""
    started = time.perf_counter()
    command = [sys.executable, "-c", AROUND.format(code), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    used, memory, texts = done.stdout.split()
    return time.perf_counter() - started, float(used), float(memory), texts


def medians(costs: list[tuple[float, float, float, str]]) -> list[float]:
    """Of seconds, seconds of a core, and MB."""
    return [statistics.median(values) for values in zip(*[each[:3] for each in costs], strict=True)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where the files go; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        print(f"100 texts of {options.rows:,} rows\n")
        print("| file | MB | before: s | CPU s | MB | now: s | CPU s | MB | CPU, before / now |")
        print("|---|---|---|---|---|---|---|---|---|")
        for file in build(folder, options.rows):
            size = file.stat().st_size / 1e6
            before, now = [], []
            for _ in range(options.rounds):
                now.append(cost(NOW, file))
                if file.suffix != ".gz":  # was of no known kind
                    before.append(cost(BEFORE, file))
            found = {texts for *_, texts in (*before, *now)}
            assert len(found) == 1, f"{file.name}: not the same texts"
            seconds, used, memory = medians(now)
            was, faster = "refused | – | –", "–"
            if before:
                old, old_used, held = medians(before)
                was, faster = f"{old:.1f} | {old_used:.1f} | {held:.0f}", f"{old_used / used:.1f}"
            print(
                f"| {file.name} | {size:.0f} | {was} | {seconds:.1f} | {used:.1f} | {memory:.0f} | {faster} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
