"""What one pass found: the scores, and what a user should know about how they came about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from plop_cli.method.floor import LEAST_SAMPLES
from plop_cli.version import __version__
from plop_registry import ModuleScore, Opinion, PartScore, Run, SampleMatrix, Skipped, TypeScore
from plop_registry.shown import Shown


@dataclass(frozen=True)
class NFNScores(Shown):
    """What one pass found, as in the JSON form; `matrix` is what `types` and `modules` were computed from."""

    types: tuple[TypeScore, ...]
    modules: tuple[ModuleScore, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    parts: tuple[PartScore, ...]
    matrix: SampleMatrix
    confidence: float
    tokens: int
    duration: float
    model: dict[str, str]
    settings: dict[str, Any]
    opinions: tuple[Opinion, ...] = ()
    """What other methods say of the activations, where they were asked."""

    @property
    def recommended(self) -> list[str]:
        """The types that PLoP adapts (paper, Step 3), lowest NFN first."""
        return [score.type for score in self.types if score.recommended]

    def as_run(self, **identity: Any) -> Run:
        """The run to store; `identity` holds what the pass cannot know (key, model and task revisions, versions)."""
        known: dict[str, Any] = {
            "created_at": datetime.now(UTC),
            "architecture": self.model["architecture"],
            "dtype": self.model["dtype"],
            "samples": len(self.matrix.texts),
            "tokens": self.tokens,
            "settings": self.settings,
            "device": self.model["device"],
            "duration": self.duration,
            "confidence": self.confidence,
            "types": self.types,
            "modules": self.modules,
            "skipped": self.skipped,
            "warnings": self.warnings,
            "parts": self.parts,
        }
        return Run(**known | identity)

    def nameless(self) -> Run:
        """The run with empty ids: what was scored in memory is in no registry, and of no named task."""
        nothing = {"key": "", "task_id": "", "task_revision": "", "texts_hash": "", "plop_version": __version__}
        return self.as_run(model_id=self.model["id"], model_revision=self.model["revision"], **nothing)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (`plop score --json`), with empty ids."""
        return self.nameless().to_dict()


@dataclass(frozen=True)
class Course:
    """How a pass went: how many of the texts it scored and cut, what it had to give up, and why it stopped."""

    texts: int
    """Those that were given."""
    scored: int
    cut: int
    """How many of the scored ones are longer than `max_length`."""
    max_length: int
    budget: int
    """Tokens per forward that were meant."""
    fitted: int | None
    """What fitted into memory instead; None where all did."""
    until: float | None
    """The confidence that was to be reached; None where all texts were to be scored."""
    decided: float
    """The confidence that was reached."""
    read: int
    """Bytes of weights that were fetched from where they were moved to, as often as they were."""

    def warnings(self) -> Iterator[str]:
        """What a user should look at, a sentence each."""
        if self.cut:
            yield f"{self.cut} of {self.scored} texts were cut at {self.max_length} tokens (--max-length)"
        if self.fitted:
            yield f"{self.budget} tokens did not fit in memory at once: went on with {self.fitted} (--batch-tokens)"
        if self.read:
            yield f"{self.read:,} bytes of weights were fetched from outside of the device's memory"
        if self.until is not None and self.scored < LEAST_SAMPLES:
            yield f"{self.scored} texts are too few to say how sure the set is; give {LEAST_SAMPLES} or more"
        elif self.until is not None:
            known = f"the chosen set is the same in {self.decided:.1%} of resamples"
            if self.decided >= self.until:
                yield f"{self.scored} of at most {self.texts} texts were scored: {known}"
            else:
                yield f"all {self.texts} texts were scored, and still {known}, not in {self.until:.1%} as wanted"
