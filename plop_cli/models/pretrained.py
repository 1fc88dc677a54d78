"""The one door to `from_pretrained`: code that a model brings runs where that was allowed, and nobody is ever asked.

transformers asks on the terminal where it is not told; whoever pipes `yes` into plop would have answered. A test holds
that no other module calls these methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import PreTrainedModel, dynamic_module_utils
from transformers.initialization import no_init_weights

from plop_cli.errors import PlopError

MOST_MODULES = 300_000
"""The largest models have 200,000, most of them experts in lists."""


def pretrained(kind: Any, source: Path | str, *, trusted: bool, most: int = MOST_MODULES, **options: Any) -> Any:
    """`kind.from_pretrained(source, **options)` of at most so many modules.

    ValueError where code would have to run that is not `trusted`.
    """
    with _asking_nobody(), _bounded(most):
        return kind.from_pretrained(source, trust_remote_code=trusted, **options)


def without_weights(kind: Any, config: Any, *, trusted: bool, most: int = MOST_MODULES) -> nn.Module:
    """The model that a configuration describes, on the meta device, of at most so many modules.

    Nothing is initialised: some models would make tables of their positions, which the meta device does not spare.
    """
    with torch.device("meta"), no_init_weights(), _asking_nobody(), _bounded(most):
        if hasattr(kind, "from_config"):  # an Auto class, which looks for code
            model: nn.Module = kind.from_config(config, trust_remote_code=trusted)
        else:
            model = kind._from_config(config)
    if isinstance(model, PreTrainedModel):
        model.tie_weights()
    return model


def with_adapter(model: nn.Module, adapter: Path) -> Any:
    """The PeftModel of a model and an adapter's folder. PEFT has no code of an adapter's own to run.

    Its weights come from the file: made here first, as a configuration asks for them, they could take all memory.
    """
    from peft import PeftModel

    with _bounded(MOST_MODULES):
        return PeftModel.from_pretrained(model, adapter, low_cpu_mem_usage=True)


@contextmanager
def _asking_nobody() -> Iterator[None]:
    """Also where transformers loads something by itself and forgets to pass on what it was told."""
    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before


@contextmanager
def _bounded(most: int) -> Iterator[None]:
    """Raise PlopError as soon as there are more modules: a configuration can ask for as many as it likes."""
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise PlopError(f"its configuration asks for more than {most:,} modules; copy config.json again")

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
