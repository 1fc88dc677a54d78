"""One forward through a model's body.

    run = forward(model)
    run(input_ids, mask)

An encoder-decoder gets each text twice: the encoder reads it, and the decoder writes it, shifted right by its start
token, as in training. Each side then has as many tokens as the text, under one and the same mask, and cross-attention's
keys and values, which see the encoder's tokens, need no other.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plop_cli.errors import PlopError
from plop_cli.network.body import body, words

Forward = Callable[[Tensor, Tensor], object]
"""Takes input_ids and mask, both (batch, length), the mask True on real tokens; what it returns is of no use."""

_OURS = Path(__file__).parent.parent


def forward(model: nn.Module, include: Sequence[str] = ()) -> Forward:
    """The forward of the body, or, where `include` names a tower, of body and towers together.

    What the model's own code raises is a PlopError of one line, with the error as its cause.
    """
    if isinstance(model, PreTrainedModel) and model.main_input_name != "input_ids":
        raise PlopError(f"{type(model).__name__} takes {model.main_input_name}, and a task has texts alone")
    masked = "attention_mask" in inspect.signature(body(model).forward).parameters
    if isinstance(model, PreTrainedModel) and not model.can_generate() and not masked:
        raise PlopError(f"{type(model).__name__} takes no attention mask, and would read padding as text")
    if isinstance(model, PreTrainedModel) and model.config.is_encoder_decoder:
        return _in_a_line(_encode_and_decode(model), model)
    return _in_a_line(_calling(cast(nn.Module, model.base_model) if include else body(model)), model)


def _in_a_line(run: Forward, model: nn.Module) -> Forward:
    def told(input_ids: Tensor, mask: Tensor) -> object:
        try:
            return run(input_ids, mask)
        except (PlopError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if Path(traceback.extract_tb(error.__traceback__)[-1].filename).is_relative_to(_OURS):
                raise
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise PlopError(f"{type(model).__name__} fails on texts ({why})") from error

    return told


def _encode_and_decode(model: PreTrainedModel) -> Forward:
    start = _start_token(model)
    both = _calling(cast(nn.Module, model.base_model)) if model.base_model is not model else _one_by_one(model)

    def run(input_ids: Tensor, mask: Tensor) -> None:
        shifted = torch.cat([torch.full_like(input_ids[:, :1], start), input_ids[:, :-1]], dim=1)
        both(input_ids, mask, decoder_input_ids=shifted, decoder_attention_mask=mask.long())

    return run


def _one_by_one(model: PreTrainedModel) -> Callable[..., Any]:
    """Of a model that has its encoder and decoder beside the output head, which is not to be run."""
    encoder, decoder = _calling(model.get_encoder()), _calling(model.get_decoder())

    def run(input_ids: Tensor, mask: Tensor, decoder_input_ids: Tensor, decoder_attention_mask: Tensor) -> None:
        states = {"encoder_hidden_states": encoder(input_ids, mask)[0], "encoder_attention_mask": mask.long()}
        decoder(decoder_input_ids, decoder_attention_mask, **states)

    return run


def _calling(part: nn.Module) -> Callable[..., Any]:
    options = {"use_cache": False} if "use_cache" in inspect.signature(part.forward).parameters else {}

    def run(input_ids: Tensor, mask: Tensor, **inputs: Tensor) -> Any:
        return part(input_ids=input_ids, attention_mask=mask.long(), **inputs, **options)

    return run


def _start_token(model: PreTrainedModel) -> int:
    config = model.config
    candidates = [getattr(config, name, None) for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id")]
    return next((token for token in candidates if token is not None), 0)


def check_length(model: nn.Module, max_length: int) -> None:
    """Raise PlopError where texts of `max_length` tokens are more than the model has positions for."""
    if max_length < 1:
        raise PlopError(f"max_length is {max_length}; give at least 1")
    if (config := getattr(model, "config", None)) is None:
        return
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not limit or limit < 0:  # XLNet's −1: as many as one likes
        return
    limit -= _positions_before_the_first(model, limit)
    if max_length > limit:
        raise PlopError(f"the model has {limit} positions; give --max-length {limit} or less")


def _positions_before_the_first(model: nn.Module, positions: int) -> int:
    """RoBERTa and its kin count positions from the one after the padding's."""
    own = words(model) if isinstance(model, PreTrainedModel) else None
    tables = (m for m in model.modules() if isinstance(m, nn.Embedding) and m is not own)
    return next((m.padding_idx + 1 for m in tables if m.num_embeddings == positions and m.padding_idx is not None), 0)
