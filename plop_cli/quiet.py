"""The Hugging Face libraries kept quiet for the time of a call: they log errors alone and show no progress bars.

Their switches hold for the whole process, which is the caller's. So what was set before is set again afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Inside, transformers is quiet, and so are huggingface_hub's bars, which it switches along with its own."""
    import transformers
    from huggingface_hub.utils.tqdm import progress_bar_states

    enabled, of_hub = transformers.logging.is_progress_bar_enabled(), dict(progress_bar_states)
    with _errors_alone("transformers"):
        transformers.logging.disable_progress_bar()
        try:
            yield
        finally:
            if enabled:
                transformers.logging.enable_progress_bar()
            progress_bar_states.clear()
            progress_bar_states.update(of_hub)


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Inside, datasets is quiet."""
    import datasets

    disabled = datasets.are_progress_bars_disabled()
    with _errors_alone("datasets"):
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            if not disabled:
                datasets.enable_progress_bars()


@contextmanager
def _errors_alone(library: str) -> Iterator[None]:
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
