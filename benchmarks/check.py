"""What a check costs: `plop_cli.check` on a config.json as large as Llama 3.1 70B's, and one of 61 layers of experts.

python benchmarks/check.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import transformers as hf

from plop_cli import check

LLAMA_70B = hf.LlamaConfig(
    hidden_size=8192,
    intermediate_size=28672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    vocab_size=128256,
    architectures=["LlamaForCausalLM"],
)
DEEPSEEK_V3 = hf.DeepseekV3Config(architectures=["DeepseekV3ForCausalLM"])
CONFIG = {"r": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}


def main() -> None:
    """Print the median of some checks of each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    for name, config in (("Llama 3.1 70B", LLAMA_70B), ("DeepSeek-V3 671B", DEEPSEEK_V3)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(config.to_dict(), default=str))
            took = []
            for _ in range(repeats):
                start = time.perf_counter()
                found = check(CONFIG, folder)
                took.append(time.perf_counter() - start)
        print(
            f"{name}: {statistics.median(took):.1f} s a check ({found.of / 1e9:.0f}B parameters, "
            f"{len(found.adapted)} modules adapted, PEFT asked itself: {'yes' if found.tried else 'no'})"
        )


if __name__ == "__main__":
    main()
