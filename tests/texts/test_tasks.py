"""Texts: where they come from, how they are drawn, and what identifies them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from plop_cli.errors import PlopError
from plop_cli.texts.presets import PRESETS, SAMPLES
from plop_cli.texts.tasks import load_task


def write(path: Path, content: str) -> str:
    path.write_text(content, encoding="utf-8")
    return str(path)


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("task", SAMPLES)
def test_each_sample_task_has_64_different_texts(task: str) -> None:
    texts = load_task(task).texts
    assert len(set(map(str, texts))) == 64


def test_the_presets_make_the_texts_of_the_papers_released_code() -> None:
    question = {"question": "Which?", "choices": ["this", "that"], "answer": 1}
    assert PRESETS["logic"].text(question) == "Which?\nA. this\nB. that"
    assert PRESETS["history"].text(question) == "Which?\nA. this\nB. that"
    assert PRESETS["math"].text({"question": "How many?", "answer": "2"}) == "How many?"
    assert PRESETS["code"].text({"prompt": "def f():\n"}) == "# Write a Python function\ndef f():\n"
    assert PRESETS["metamath"].text({"query": "How many?", "response": "2"}) == "How many?"
    assert PRESETS["anli"].text({"premise": "It rains.", "hypothesis": "It is wet."}) == "It rains.\nIt is wet."


def test_the_same_seed_draws_the_same_texts_and_a_larger_draw_begins_with_the_smaller() -> None:
    few, many, other = (
        load_task("sample/code", samples=8),
        load_task("sample/code", samples=20),
        load_task("sample/code", samples=8, seed=1),
    )
    assert many.texts[:8] == few.texts == load_task("sample/code", samples=8).texts
    assert len(set(map(str, many.texts))) == 20, "without replacement"
    assert other.texts != few.texts
    assert few.texts_hash == load_task("sample/code", samples=8).texts_hash != many.texts_hash


def test_a_source_that_runs_short_or_holds_empty_texts_says_so(tmp_path: Path) -> None:
    task = load_task(write(tmp_path / "t.jsonl", lines({"text": "a"}, {"text": " "}, {"text": None}, {"text": "b"})))
    assert sorted(map(str, task.texts)) == ["a", "b"]
    assert task.notes == (
        "t.jsonl: 2 empty texts were passed over",
        "t.jsonl has 2 texts, fewer than --samples 100",
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", lines({"text": "one", "n": 1}, {"text": "two", "n": 2})),
        ("t.json", json.dumps([{"text": "one"}, {"text": "two"}])),
        ("t.csv", "text,n\none,1\ntwo,2\n"),
        ("t.txt", "one\ntwo\n"),
    ],
)
def test_files_are_read_by_their_ending(tmp_path: Path, name: str, content: str) -> None:
    assert sorted(map(str, load_task(write(tmp_path / name, content)).texts)) == ["one", "two"]


def test_parquet_is_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"question": ["one", "two"], "n": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    assert sorted(map(str, load_task(str(tmp_path / "t.parquet")).texts)) == ["one", "two"]


def test_column_and_template_choose_the_text(tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl", lines({"q": "how many?", "a": "2"}))
    assert load_task(file, column="a").texts == ("2",)
    assert load_task(file, template="{q}\n{a}").texts == ("how many?\n2",)
    assert load_task(file, column="a").id != load_task(file, column="q").id


def test_messages_stay_conversations(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "hello"}]
    assert load_task(write(tmp_path / "t.jsonl", lines({"messages": talk, "id": "x"}))).texts == (talk,)


def test_a_files_identity_follows_its_content(tmp_path: Path) -> None:
    first = load_task(write(tmp_path / "t.txt", "one\n"))
    second = load_task(write(tmp_path / "t.txt", "two\n"))
    assert first.id == second.id
    assert first.revision != second.revision
    assert first.texts_hash != second.texts_hash


@pytest.mark.parametrize(("piped", "texts"), [("one\n\ntwo\n", {"one", "two"}), (lines({"text": "one"}), {"one"})])
def test_standard_input_is_a_text_per_line_or_json_lines(
    monkeypatch: pytest.MonkeyPatch, piped: str, texts: set[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(piped.encode())))
    assert set(map(str, load_task("-").texts)) == texts


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("t.jsonl", "", {}, "is empty"),
        ("t.jsonl", lines({"text": ""}, {"text": None}), {}, "every row is empty"),
        ("t.jsonl", '{"text": "a"}\n{"text": \n', {}, "line 2: malformed JSON"),
        ("t.jsonl", '{"text": "a"}\n[1]\n', {}, "line 2: not a JSON object"),
        ("t.json", '{"text": ', {}, "cannot be read"),
        ("t.csv", "q,a\n1,2\n", {}, "give --column; there are q, a"),
        ("t.csv", "q,a\n1,2\n", {"column": "b"}, "no column 'b'; there are q, a"),
        ("t.csv", "q,a\n1,2\n", {"template": "{q} {b}"}, "no column 'b'; there are q, a"),
        ("t.csv", "q,a\n1,2\n", {"template": "{q"}, "malformed"),
        ("t.pdf", "x", {}, "is of no known kind; give one of .jsonl"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_remedy(
    tmp_path: Path, name: str, content: str, options: dict[str, str], said: str
) -> None:
    with pytest.raises(PlopError) as caught:
        load_task(write(tmp_path / name, content), **options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("maths", "did you mean 'math'?"),
        ("sample/mth", "did you mean 'sample/math'?"),
        ("nowhere.jsonl", "no task 'nowhere.jsonl'"),
        ("./org/name", "no task"),
    ],
)
def test_an_unknown_task_names_the_nearest(task: str, said: str) -> None:
    with pytest.raises(PlopError) as caught:
        load_task(task)
    assert said in str(caught.value)


def test_no_samples_are_an_error() -> None:
    with pytest.raises(PlopError, match="--samples is 0"):
        load_task("sample/math", samples=0)
