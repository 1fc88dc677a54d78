"""Data as people have it: files of every format and form, the texts that come out, and what is said where none do."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plop_cli.errors import PlopError
from plop_cli.texts import rows as rows_module
from plop_cli.texts.readers import rows_of_file
from plop_cli.texts.rows import InMemory, Streamed
from plop_cli.texts.tasks import Task, load_task
from plop_cli.texts.text import Answered, Conversation

DATA = Path(__file__).parent / "data"
EXPECTED = json.loads((DATA / "expected.json").read_text())


def in_file_order(task: Task) -> list[Any]:
    return [text for _, text in sorted(zip(task.rows, task.texts, strict=True), key=lambda pair: pair[0])]


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("source", EXPECTED)
def test_every_format_and_form_gives_its_texts_and_says_what_was_recognised(source: str) -> None:
    """tests/texts/data/expected.json: the texts in the order of the rows, and the line that says how they were made."""
    task = load_task(str(DATA / source), samples=3)
    assert in_file_order(task) == EXPECTED[source]["texts"]
    said = [note.replace(str(DATA), "DATA") for note in task.notes if note.startswith("texts:")]
    assert said == EXPECTED[source]["said"]


def test_every_file_of_the_folder_has_its_texts() -> None:
    assert {file.name for file in DATA.iterdir()} - {"expected.json"} <= set(EXPECTED)


@pytest.mark.parametrize("form", ["text.csv", "text.jsonl", "sharegpt.json", "mark.jsonl", "utf16.jsonl"])
def test_standard_input_is_read_as_a_file_is(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((DATA / form).read_bytes())))
    texts = in_file_order(load_task("-", samples=3))
    if form == "text.csv":  # nothing tells that it is one: a text per line
        assert texts[0] == "text,label"
    else:
        assert texts == EXPECTED[form]["texts"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "text,label\nw1 w2,pos,\n", "line 2: 3 values, and the header has 2 columns"),
        ("t.csv", "text,label\na,b\nw1, w2,pos\n", "line 3: 3 values"),
        ("t.csv", "text,label\na\n", "line 2: 1 values"),
        ("t.csv", 'text,label\n"a,b\nc,d\n', "malformed CSV"),
        ("t.csv", "text,text\na,b\n", "two columns 'text'"),
        ("t.jsonl", b'\xff\xfe{\x00"\x00\x00\xd8', "begins as UTF-16 and is not"),
        ("t.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "line 2: the byte 0xe9"),
        ("t.txt", b"one\ncaf\xe9\n", "line 2: the byte 0xe9"),
        ("t.txt", "one\ntwo\n".encode("utf-16-le"), "line 1: a NUL byte"),
        ("t.jsonl", '{"text": "a \\ud800 b"}\n', "row 1: half a character (U+D800"),
        ("t.jsonl", '{"text": ' + "[" * 100_000 + "\n", "line 1: malformed JSON"),
        ("t.json", "[" * 100_000 + "]" * 100_000, "nested too deep"),
        ("t.json", '[{"text": "a"}, {"text": "b"}', "its list is not closed"),
        ("t.json", '[{"text": "a"}, 5]', "is no list of JSON objects"),
        ("t.json", '[{"text": "a"}] [1]', "its list is not closed, or not all"),
        ("t.jsonl", lines({"id": "x_0", "turns": [1]}), "give --column; there are id, turns"),
        ("t.jsonl", lines({"id": "x_0"}), "give --column; there are id"),
        ("t.jsonl", lines({"questionId": "x_0", "n": 1}), "give --column; there are questionId, n"),
        ("t.jsonl", lines({"title": "T", "tags": ["a"]}), "give --column; there are title, tags"),
        ("t.jsonl", lines({"messages": ["a", "b"]}), "row 1: messages is a list of no turns"),
        ("t.jsonl", lines({"messages": [{"role": "user", "content": [{"type": "image"}]}]}), "holds more than text"),
        ("t.jsonl", lines({"text": {"de": "a"}}), "text holds an object; name what is inside with --template"),
        ("t.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:-12], "cannot be read"),
        ("t.jsonl.zst", b"no zst", "cannot be read"),
        ("t.parquet", b"PAR1", "cannot be read"),
        ("t.arrow", b"ARROW1", "cannot be read"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    with pytest.raises(PlopError) as caught:
        load_task(write(tmp_path / name, content))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("~nosuchuser/t.jsonl", "cannot be found"),
        ("x" * 5000, "no task"),
        ("a\0b", "no task"),
        ("nothing/*.jsonl", "no file matches"),
        ("/dev/null", "is no regular file"),
        (str(DATA / "saved_splits@dev"), "has no split 'dev'; there are train, test"),
        (str(DATA / "saved@test"), "has no split 'test'; there are no splits"),
        (str(DATA / "*.*"), "matches files of several formats"),
        (str(DATA), "files; name those of one, as"),
    ],
)
def test_a_task_that_is_no_data_set_here_is_one_line(task: str, said: str) -> None:
    with pytest.raises(PlopError) as caught:
        load_task(task)
    assert said in str(caught.value)


def test_a_folder_with_a_slash_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    write(tmp_path / "org" / "name" / "t.jsonl", lines({"text": "here"}))
    assert load_task("org/name").texts == ("here",)
    (tmp_path / "org" / "name" / "t.jsonl").unlink()
    with pytest.raises(PlopError, match="holds no data"):
        load_task("org/name")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="another user's eyes need root to be borrowed")
def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "t.jsonl"
    write(file, lines({"text": "a"}))
    file.chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(PlopError):  # the file, or a folder above it
            load_task(str(file))
    finally:
        os.seteuid(0)


def test_a_column_that_a_row_lacks_makes_it_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = lines({"text": "a"}, {"other": "b"})
    for task in (write(tmp_path / "t.jsonl", content), "-"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        assert load_task(task).texts == ("a",)
        assert any("1 empty texts were passed over" in note for note in load_task(str(tmp_path / "t.jsonl")).notes)


def test_standard_input_that_is_closed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(PlopError, match="standard input is closed"):
        load_task("-")


def test_bad_rows_are_passed_over_and_counted_when_asked(tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl", '{"text": "a"}\n{"text": \n{"text": "\\ud800"}\n{"text": "b"}\n')
    with pytest.raises(PlopError, match=r"--skip-bad passes over such rows"):
        load_task(file)
    task = load_task(file, skip_bad=True)
    assert in_file_order(task) == ["a", "b"]
    assert any("2 rows were passed over (--skip-bad); the first: " in note for note in task.notes)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{q}\n{a}", "why?\n7"),
        ("{user.name}: {q}", "Ann: why?"),
        ("{user[name]}/{turns[1].content}", "Ann/hi"),
        ("{turns}", "user: hello\nassistant: hi"),
        ("{tags}{user}", '["x", "y"]{"name": "Ann"}'),
        ("{a:03d}|{q:>6}|{{}}", "007|  why?|{}"),
        ("{none}{missing.x}{q}", "why?"),
        ("{dotted.name}", "literal"),
    ],
)
def test_a_template_knows_columns_and_what_is_inside_them(tmp_path: Path, template: str, text: str) -> None:
    row = {
        "q": "why?",
        "a": 7,
        "user": {"name": "Ann"},
        "turns": [{"from": "human", "value": "hello"}, {"role": "assistant", "content": "hi"}],
        "tags": ["x", "y"],
        "none": None,
        "missing": {},
        "dotted.name": "literal",
    }
    assert load_task(write(tmp_path / "t.jsonl", lines(row)), template=template).texts == (text,)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{text.__class__}", "holds no text"),
        ("{text.__class__.__mro__[1]}", "holds no text"),
        ("{text:>999999999}", "fills a field to more than 1000 characters"),
        ("{text:.99999999999999999999f}", "fills a field to more than 1000 characters"),
        ("{text:{width}}", "is malformed"),
        ("{text:d}", "has the format 'd'"),
        ("{text!x}", "malformed"),
        ("{}", "is malformed"),
        ("text", "names no column"),
        ("{text[}", "malformed"),
        ("{__class__}", "no column '__class__'"),
    ],
)
def test_a_template_reaches_nothing_else(tmp_path: Path, template: str, said: str) -> None:
    with pytest.raises(PlopError) as caught:
        load_task(write(tmp_path / "t.jsonl", lines({"text": "a b"})), template=template)
    assert said in str(caught.value)


def test_prompts_and_completions_are_known_apart() -> None:
    (text, *_) = load_task(str(DATA / "completion.jsonl"), samples=1).texts
    assert isinstance(text, Answered)
    assert text == text.prompt + text.completion
    (talk, *_) = load_task(str(DATA / "completion_turns.jsonl"), samples=1).texts
    assert isinstance(talk, Conversation)
    assert talk.begins == 1


def test_rows_are_drawn_as_a_whole_permutation_draws_them(tmp_path: Path) -> None:
    """The draw that runs of before were made with: `default_rng(seed).permutation(n)`, empty rows passed over."""
    rows = [{"text": f"row {i}" if i % 3 else ""} for i in range(5000)]
    order = [f"row {i}" for i in np.random.default_rng(7).permutation(5000) if i % 3]
    file = write(tmp_path / "t.jsonl", lines(*rows))
    assert list(load_task(file, samples=2000, seed=7).texts) == order[:2000]


def test_the_first_entries_of_a_huge_permutation_are_different_and_begin_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "WHOLE", 10)
    rows = InMemory([{"n": i} for i in range(1000)])
    drawn = [index for index, _ in rows.drawn(seed=3, wanted=5)]
    assert sorted(drawn) == list(range(1000))
    assert drawn[:5] == [index for (index, _), _ in zip(rows.drawn(seed=3, wanted=999), range(5), strict=False)]
    assert drawn != sorted(drawn)


def test_a_streamed_data_set_is_drawn_from_all_its_files_alike_each_time(tmp_path: Path) -> None:
    """The stream of the `datasets` library itself, over files here."""
    datasets = pytest.importorskip("datasets")
    for shard in range(3):
        write(tmp_path / f"{shard}.jsonl", lines(*({"text": f"{shard}:{i}"} for i in range(2500))))
    files = sorted(map(str, tmp_path.glob("*.jsonl")))
    stream = datasets.load_dataset("json", data_files=files, split="train", streaming=True)

    def drawn(wanted: int, seed: int = 0) -> list[str]:
        rows = Streamed([stream.shard(stream.num_shards, index) for index in range(stream.num_shards)])
        return [row["text"] for _, (_, row) in zip(range(wanted), rows.drawn(seed=seed, wanted=wanted), strict=False)]

    many = drawn(250)
    assert many[:100] == drawn(100)
    assert len(set(many)) == 250, "without replacement"
    assert {text[0] for text in many[:96]} == {"0", "1", "2"}
    assert drawn(20, seed=1) != many[:20]


def test_rows_of_files_can_be_walked(tmp_path: Path) -> None:
    assert [row["text"] for row in rows_of_file(Path(write(tmp_path / "t.txt", "one\r\ntwo")))] == ["one", "two"]


def test_a_file_that_changes_while_it_is_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.jsonl"
    write(file, lines({"text": "a"}))
    from plop_cli.texts import tasks

    whole = tasks._draw

    def slow(*arguments: Any, **options: Any) -> Task:
        file.write_text(lines({"text": "a"}, {"text": "b"}))
        return whole(*arguments, **options)

    monkeypatch.setattr(tasks, "_draw", slow)
    with pytest.raises(PlopError, match="was changed while it was read"):
        load_task(str(file))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of memory")
def test_a_hundred_texts_of_a_large_file_need_neither_all_of_it_in_memory_nor_torch(tmp_path: Path) -> None:
    import subprocess

    file = tmp_path / "t.jsonl"
    with file.open("w") as out:
        for i in range(420_000):
            out.write(json.dumps({"text": f"{i} " + "word " * 200}) + "\n")
    assert file.stat().st_size > 400 << 20
    probe = (
        "import re, sys; from plop_cli.texts.tasks import load_task;"
        "load_task(sys.argv[1]);"
        "peak = re.search('VmHWM:.*?([0-9]+)', open('/proc/self/status').read())[1];"
        "print(peak, {'torch', 'datasets', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe, file], check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[0]) < 200 << 10, "kilobytes, of a file of 400 MB"
    assert done.stdout.split()[1] == "set()"
