"""What a call could change in its caller's process beside what it returns, as far as that can be read."""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import pickle
import random
import signal
import socket
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import accelerate  # noqa: F401  (what a library does when it is first imported is no trace of a call)
import alembic.command  # noqa: F401
import altair
import datasets
import huggingface_hub
import numpy as np
import peft  # noqa: F401
import torch
import transformers
from huggingface_hub.utils.tqdm import progress_bar_states
from tqdm import tqdm
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# The first of these registers an exit function for all.
weakref.finalize(altair, lambda: None)
tqdm(file=io.StringIO()).close()


def fingerprint() -> dict[str, Any]:
    """Every such thing by name; equal values where nothing was changed."""
    return {
        "folder": os.getcwd(),
        **{f"environment {name}": value for name, value in os.environ.items()},
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "exit functions": atexit._ncallbacks(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.gettrace(), sys.getprofile()),
        "interpreter": (list(sys.path), sys.getrecursionlimit(), gc.isenabled(), gc.get_threshold()),
        "defaults": (tempfile.tempdir, socket.getdefaulttimeout()),
        **_loggers(),
        **_random(),
        **_torch(),
        **_libraries(),
    }


def _loggers() -> dict[str, Any]:
    """Of those that are set in any way: a call may make new ones, as `import` does."""
    named = {name: one for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    states = {
        f"logger {name}": (one.level, one.propagate, one.disabled, list(one.handlers), list(one.filters))
        for name, one in {"": logging.root, **named}.items()
    }
    silent = (logging.NOTSET, True, False, [], [])
    return {name: state for name, state in states.items() if state != silent} | {
        "logging": logging.root.manager.disable
    }


def _random() -> dict[str, Any]:
    return {
        "random python": hash(random.getstate()),
        "random numpy": hash(pickle.dumps(np.random.get_state())),
        "random torch": hash(torch.get_rng_state().numpy().tobytes()),
    }


def _torch() -> dict[str, Any]:
    return {
        "torch modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "torch autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "torch defaults": (torch.get_default_dtype(), torch.get_default_device()),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch determinism": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "torch precision": (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32),
        "torch cudnn": (
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
        ),
        "torch attention": (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()),
        "torch processes": torch.distributed.is_initialized(),
        "numpy": (np.geterr(), np.get_printoptions()),
    }


def _libraries() -> dict[str, Any]:
    return {
        "hub": (huggingface_hub.constants.HF_HUB_OFFLINE, huggingface_hub.constants.ENDPOINT),
        "hub bars": dict(progress_bar_states),
        "transformers": (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()),
        "transformers functions": (list(ALL_EXPERTS_FUNCTIONS), list(ALL_ATTENTION_FUNCTIONS)),
        "datasets": (datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()),
        "datasets hub": (datasets.config.HF_HUB_OFFLINE, datasets.is_caching_enabled()),
        "altair": (altair.theme.active, altair.renderers.active, altair.data_transformers.active),
    }


@contextmanager
def no_trace(*, but: tuple[str, ...] = ()) -> Iterator[None]:
    """Whatever happens inside, the process is as it was; `but` names what may be changed."""
    before = fingerprint()
    try:
        yield
    finally:
        after = fingerprint()
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        assert changed <= set(but), {name: (before.get(name), after.get(name)) for name in sorted(changed)}
