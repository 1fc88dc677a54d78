"""Chat templates: what they may not do, and where the answers are that `--on answers` scores."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from brute_force import *  # noqa: F403
