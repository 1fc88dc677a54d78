"""Lists and numbers in words."""

from __future__ import annotations

import pytest

from plop_cli.words import counted, listed


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("", ""),
        ("a", "a"),
        ("ab", "a and b"),
        ("abc", "a, b and c"),
        ("abcdef", "a, b, c, d, e and f"),
        ("abcdefg", "a, b, c, d, e and 2 more"),
    ],
)
def test_a_list_is_said_with_and(names: str, said: str) -> None:
    assert listed(list(names)) == said


def test_one_thing_is_no_plural() -> None:
    assert [counted(number, "run") for number in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]
