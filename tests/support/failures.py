"""What people report of configs that do not adapt what their authors think, each with a small model that shows it.

python tests/support/failures.py > docs/check.md
"""

from __future__ import annotations

import json
from typing import Any

Q_V = ["q_proj", "v_proj"]
SEVEN = [*Q_V, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# What people report: the model, what they asked for, what becomes of it, and what plop says.
FAILURES: dict[str, tuple[str, dict[str, Any], tuple[str, str], str]] = {
    "a dead name beside a live one is silent": (
        *("llama", {"target_modules": ["q_proj", "qkv_proj"]}, ("warning", "dead-name")),
        "qkv_proj hits no module of LlamaForCausalLM",
    ),
    "names of another family": (
        *("gpt2", {"target_modules": Q_V}, ("error", "refused")),
        "not found in the base model",
    ),
    "a slip of the pen": (
        *("llama", {"target_modules": ["q_proj", "vproj"]}, ("warning", "dead-name")),
        "did you mean v_proj?",
    ),
    "a single name as a string is a regex": (
        *("llama", {"target_modules": "q_proj"}, ("error", "dead-name")),
        "in a list it would hit 4 modules",
    ),
    "linear attention lacks q_proj": (
        *("qwen3-next", {"target_modules": Q_V}, ("warning", "uneven")),
        "q_proj is in 1 of 4 blocks of model.layers, not in 0–2, which have linear_attn.",
    ),
    "attention in every second block": (
        *("jamba", {"target_modules": Q_V}, ("warning", "uneven")),
        "v_proj is in 2 of 4 blocks of model.layers, not in 0 and 2, which have mamba.",
    ),
    "experts that all-linear does not reach": (
        *("gpt-oss", {"target_modules": "all-linear"}, ("warning", "frozen-experts")),
        "the experts stay frozen",
    ),
    "experts whose names are of an older transformers": (
        *("gpt-oss", {"target_modules": [*Q_V, "down_proj"]}, ("warning", "frozen-experts")),
        "down_proj and gate_up_proj in 4 parameters",
    ),
    "one half of a fused projection": (
        *("qwen3-next", {"target_modules": ["gate_proj"]}, ("error", "refused")),
        "without also targeting up_proj",
    ),
    "shared experts that PEFT takes for the fused ones": (
        *("qwen3-next", {"target_modules": SEVEN}, ("warning", "lost")),
        "put gate_proj.weight into target_parameters",
    ),
    "out_proj of Mamba": (
        *("mamba2", {"target_modules": ["in_proj", "out_proj"]}, ("error", "refused")),
        "incompatible with Mamba-based models",
    ),
    "all-linear on Mamba": (
        *("falcon-h1", {"target_modules": "all-linear"}, ("error", "refused")),
        "incompatible with Mamba-based models",
    ),
    "dropout with parameters": (
        *(
            "mixtral",
            {"target_parameters": ["gate_up_proj"], "target_modules": Q_V, "lora_dropout": 0.05},
        ),
        ("error", "refused"),
        "lora_dropout != 0",
    ),
    "a vision tower that shares names": (
        *("LLaVA", {"target_modules": Q_V, "task_type": "CAUSAL_LM"}, ("warning", "not-meant")),
        "the vision tower",
    ),
    "a regex with layers": (
        *("llama", {"target_modules": ".*q_proj", "layers_to_transform": [0]}, ("error", "refused")),
        "`layers_to_transform` cannot be used when `target_modules` is a str",
    ),
    "layers that are not there": (
        *("llama", {"target_modules": Q_V, "layers_to_transform": [7]}, ("error", "refused")),
        "not found in the base model",
    ),
    "a pattern of layers that hits nothing": (
        *("llama", {"target_modules": Q_V, "layers_to_transform": [0], "layers_pattern": "blocks"}),
        *(("error", "refused"), "not found in the base model"),
    ),
    "names with the prefix of a wrapper": (
        *("llama", {"target_modules": [*Q_V, "base_model.model.model.layers.0.mlp.up_proj"]}),
        *(("warning", "dead-name"), "did you mean up_proj?"),
    ),
    "an embedding that is tied": (
        *("tied", {"target_modules": [*Q_V, "embed_tokens"]}, ("warning", "tied")),
        "tie_word_embeddings=True",
    ),
    "a head that is tied": (
        *("tied", {"target_modules": Q_V, "modules_to_save": ["lm_head", "embed_tokens"]}, ("warning", "tied")),
        "tie_word_embeddings=True",
    ),
    "a task type that the model cannot do": (
        *("bert", {"target_modules": ["query"], "task_type": "CAUSAL_LM"}, ("error", "refused")),
        "prepare_inputs_for_generation",
    ),
    "a classifier of texts as one of tokens": (
        *("classifier", {"target_modules": ["query"], "task_type": "TOKEN_CLS"}, ("warning", "task-type")),
        "is for SEQ_CLS",
    ),
    "a regex that does not compile": (
        *("llama", {"target_modules": "*.q_proj"}, ("error", "regex")),
        "is no regular expression (nothing to repeat",
    ),
    "a regex that runs for ever": (
        *("llama", {"target_modules": r"(\w+\.?)+\.no"}, ("error", "regex")),
        "takes longer than",
    ),
    "a parameter that is not there": (
        *("mixtral", {"target_modules": Q_V, "target_parameters": ["experts.w1"]}, ("warning", "dead-name")),
        "experts.w1 is no parameter",
    ),
}

THREADS: dict[str, tuple[str, ...]] = {
    "a dead name beside a live one is silent": ("dllm-reasoning/d1#6", "huggingface/peft#1959"),
    "names of another family": ("huggingface/peft#40",),
    "a slip of the pen": ("NVIDIA-NeMo/Megatron-Bridge#1738",),
    "linear attention lacks q_proj": ("huggingface/peft#3554",),
    "attention in every second block": ("huggingface/peft#3554",),
    "experts that all-linear does not reach": ("huggingface/peft#3009", "huggingface/transformers#36518"),
    "experts whose names are of an older transformers": ("huggingface/peft#3009", "unslothai/unsloth#3405"),
    "out_proj of Mamba": ("huggingface/peft#2556",),
    "all-linear on Mamba": ("huggingface/peft#2556",),
    "a pattern of layers that hits nothing": ("huggingface/peft#3610", "huggingface/peft#2155"),
    "an embedding that is tied": ("huggingface/peft#2864",),
    "a vision tower that shares names": ("haotian-liu/LLaVA#1380",),
    "a head that is tied": ("huggingface/peft#2777", "huggingface/peft#2018"),
}
"""Where some of them were reported."""


def page() -> str:
    """docs/check.md."""
    rows = [
        f"| {what}{_links(what)} | {model} | `{json.dumps(config)}` | {level}: {said} |".replace("\\\\", "\\")
        for what, (model, config, (level, _), said) in FAILURES.items()
    ]
    return "\n".join([_HEAD, *rows, ""])


def _links(what: str) -> str:
    links = (f"[{thread}](https://github.com/{thread.replace('#', '/issues/')})" for thread in THREADS.get(what, ()))
    return "".join(f" {link}" for link in links)


_HEAD = """\
# What goes wrong silently

What people report of configs that do not adapt what their authors think, each reproduced with a small model, and the
words in which `plop check` says it. A test makes each of them; `python tests/support/failures.py` makes this page.
Ranks above what a server loads (vllm-project/vllm#2847), adapters whose B is still zero, NaN and keys without a place
(vllm-project/vllm#34186) are tested beside them. Blocks that get no adapter by any target are a warning, blocks that
lack one of several a note.

| what is reported | model | config | `plop check` |
|---|---|---|---|"""


if __name__ == "__main__":
    print(page(), end="")
