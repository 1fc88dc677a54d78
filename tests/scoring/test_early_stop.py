"""Scoring that stops once the choice is sure: what it scores, what it records, and how often it is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plop_cli import score
from plop_cli.method.choice import PLOP, Rule, Samples, choose, looks
from small_models import byte_tokenizer, qwen2

SAMPLES = 100
TYPES = [f"{letter}_proj" for letter in "qkvogud"]


def test_it_looks_after_8_16_32_and_all_and_shares_the_risk_among_the_early_looks() -> None:
    assert looks(100, 0.98) == [(8, 0.995), (16, 0.995), (32, 0.995), (64, 0.995), (100, 0.98)]
    assert [look for look, _ in looks(64, 0.99)] == [8, 16, 32, 64]
    assert looks(8, 0.99) == [(8, 0.99)]
    assert looks(5, 0.99) == [(5, 0.99)]


# On synthetic tasks with a known truth


def task(rng: np.random.Generator, gap: float, noise: float) -> Samples:
    """Seven types, of which the third and the fourth lowest are `gap` standard errors of the full data apart.

    Noise has heavy tails (Student, 4 degrees of freedom), a part that all types share, and texts of uneven lengths.
    """
    lengths = rng.integers(30, 120, size=(SAMPLES, 1)).astype(float)
    error = noise * np.sqrt(2 * (lengths**2).sum()) / lengths.sum()
    nfn = np.sort(rng.uniform(0.6, 2, len(TYPES)))
    nfn[3:] += nfn[2] + gap * error - nfn[3]
    own = noise * rng.standard_t(4, size=(SAMPLES, len(TYPES))) / np.sqrt(2)
    shared = rng.uniform(0, 0.2) * rng.standard_normal((SAMPLES, 1))
    return Samples((rng.permutation(nfn) + own + shared) * lengths, np.repeat(lengths, len(TYPES), axis=1), TYPES)


def stop_early(full: Samples, rule: Rule = PLOP, until: float = 0.99) -> tuple[int, set[str]]:
    """As `score` does it: how many samples were used, and what was chosen."""
    for look, enough in looks(SAMPLES, until):
        choice = choose([Samples(full.sums[:look], full.counts[:look], full.units)], rule)
        if choice.confidence >= enough:
            break
    return look, set(choice.chosen)


def test_of_1000_resolvable_tasks_at_most_1_percent_end_with_another_set_than_the_full_data() -> None:
    """Resolvable: the gap is at least 4 standard errors of all 100 samples."""
    rng = np.random.default_rng(0)
    used, differing = [], 0
    for _ in range(1000):
        full = task(rng, gap=rng.uniform(4, 12), noise=rng.uniform(0.05, 0.3))
        samples, chosen = stop_early(full)
        used.append(samples)
        differing += chosen != set(choose([full], PLOP).chosen)
    assert differing <= 10
    assert np.mean(used) < 30, "and it does stop early"


def test_where_two_types_tie_it_goes_on_to_the_limit() -> None:
    """By chance a tie can look decided on the way there, for either of the two: 5 % do, and either is as good then."""
    rng = np.random.default_rng(0)
    used = [stop_early(task(rng, gap=0, noise=0.1))[0] for _ in range(200)]
    assert np.mean(np.array(used) == SAMPLES) > 0.9


# On a model


@pytest.fixture(scope="module")
def model() -> Any:
    return qwen2()


TEXTS = [f"{'What is ' * (i % 5 + 1)}{i} plus {i * i}?" for i in range(40)]


def test_it_scores_the_first_texts_and_no_token_more(model: Any) -> None:
    """The scores are those of these texts alone; batches of earlier looks are not run again."""
    seen: list[int] = []
    handle = model.model.embed_tokens.register_forward_hook(lambda module, args, output: seen.append(args[0].numel()))
    try:
        found = score(model, byte_tokenizer(), TEXTS, until=0.99, batch_tokens=1)
    finally:
        handle.remove()
    used = len(found.matrix.texts)
    assert used in (8, 16, 32)
    assert sum(seen) == found.tokens == sum(len(text.encode()) for text in TEXTS[:used])
    again = score(model, byte_tokenizer(), TEXTS[:used], batch_tokens=1)
    assert found.matrix.texts.tolist() == again.matrix.texts.tolist()
    np.testing.assert_allclose(found.matrix.sums, again.matrix.sums, rtol=1e-5)
    assert (found.settings, found.recommended) == (again.settings, again.recommended)
    assert found.confidence >= 0.99
    assert f"{used} of at most 40 texts were scored: the chosen set is the same in " in found.warnings[-1]


def test_what_cannot_be_decided_is_scored_to_the_limit_and_says_so(model: Any) -> None:
    """Under a threshold that lies on a type's very NFN."""
    threshold = score(model, byte_tokenizer(), TEXTS).types[2].nfn
    found = score(model, byte_tokenizer(), TEXTS, until=0.99, rule=Rule(below=threshold))
    assert len(found.matrix.texts) == 40
    assert found.warnings[-1].startswith("all 40 texts were scored, and still the chosen set is the same in ")
    assert found.warnings[-1].endswith(" of resamples, not in 99.0% as wanted")


def test_what_is_asked_decides_when_it_is_decided(model: Any) -> None:
    """All of the types are sure at the first look."""
    assert len(score(model, byte_tokenizer(), TEXTS, until=1.0, rule=Rule(count=7)).matrix.texts) == 8


def test_cut_texts_are_counted_among_those_that_were_scored(model: Any) -> None:
    found = score(model, byte_tokenizer(), ["x" * 30, *TEXTS], until=0.5, max_length=29, rule=Rule(count=7))
    cut = sum(len(text) > 29 for text in ["x" * 30, *TEXTS][:8])
    assert found.warnings[0] == f"{cut} of 8 texts were cut at 29 tokens (--max-length)"


def test_without_the_wish_nothing_stops_early(model: Any) -> None:
    found = score(model, byte_tokenizer(), TEXTS[:20])
    assert (len(found.matrix.texts), found.warnings) == (20, ())
