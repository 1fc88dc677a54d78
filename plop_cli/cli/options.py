"""Options that commands share: which texts, how they go through the model, and how a run is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from plop_cli.cli import panels
from plop_cli.cli.filters import whole
from plop_cli.models.options import Loading

Scoring = Mapping[str, Any]
"""Fields of `runs.jobs.Request`."""


def _remark(text: str) -> str:
    """What can be shown on a line, and travels with the run."""
    if not text.isprintable():
        raise typer.BadParameter("give one line without control characters")
    if len(text) > _LONGEST:
        raise typer.BadParameter(f"{len(text)} characters are too many; {_LONGEST} are enough")
    return text


def _name(text: str) -> str:
    if text == "latest":
        raise typer.BadParameter("'latest' is the newest run, whatever it is called; give another name")
    return _remark(text)


_LONGEST = 1_000


class Rows(StrEnum):
    type = "type"
    layer = "layer"
    module = "module"


class DtypeName(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Precision(StrEnum):
    four = "4bit"
    eight = "8bit"


class Elsewhere(StrEnum):
    cpu = "cpu"
    disk = "disk"


class Spread(StrEnum):
    auto = "auto"


By = Annotated[Rows, panels.output("--by", help="What the rows of the table are.")]
Map = Annotated[bool, panels.output("--map", help="Show the NFN-map too: layers by types.")]


class On(StrEnum):
    all = "all"
    answers = "answers"


def _decoded(template: str | None) -> str | None:
    """With `\\n`, `\\t` and `\\\\`, which the shell keeps as two characters between quotes, as what they stand for."""
    meant = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
    return template and re.sub(r"\\[nt\\]", lambda match: meant[match[0]], template)


Name = Annotated[
    str | None, panels.output("--name", parser=_name, metavar="NAME", help="What to call the run, to find it again.")
]
Note = Annotated[
    str | None, panels.output("--note", parser=_remark, metavar="TEXT", help="What to remember of the run.")
]
Overwrite = Annotated[bool, panels.output("--overwrite", "--force", help="Replace files that exist.")]
Samples = Annotated[
    int, panels.texts("--samples", "-n", parser=whole(0), metavar="N", help="Texts to draw from each task.")
]
MaxLength = Annotated[
    int, panels.texts("--max-length", parser=whole(0), metavar="N", help="Tokens per text; longer texts are cut.")
]
BatchTokens = Annotated[
    int | None,
    panels.loading(
        "--batch-tokens",
        parser=whole(1),
        metavar="N",
        help="Tokens per forward, padding included. Default: 512 on the CPU, 16,384 elsewhere.",
    ),
]
Confidence = Annotated[
    float,
    panels.what("--confidence", min=0.5, max=1.0, help="How sure is sure: in how many resamples the set is the same."),
]
Seed = Annotated[
    int, panels.texts("--seed", parser=whole(0, 2**63 - 1), metavar="N", help="Of the drawn texts and the probes.")
]
Dtype = Annotated[
    DtypeName,
    panels.loading(
        "--dtype", help="auto: bfloat16 on CUDA, else float32, or the checkpoint's own where that would not fit."
    ),
]
Device = Annotated[str, panels.loading("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Revision = Annotated[
    str | None, panels.loading("--revision", help="Branch, tag or commit on the hub, for every MODEL.")
]
Column = Annotated[
    str | None,
    panels.texts("--column", help="Which column of a file or data set is the text, or the conversation."),
]
Template = Annotated[
    str | None,
    panels.texts("--template", callback=_decoded, help='Make the text of a row: "{question}\\n{answer}".'),
]
OnWhat = Annotated[On, panels.texts("--on", help="answers: score only what the assistant says, or the completion.")]
SkipBad = Annotated[
    bool,
    panels.texts("--skip-bad", help="Pass over rows that are no text, and conversations that the template refuses."),
]
Chat = Annotated[bool, panels.texts("--chat", help="Wrap each text as a user turn with the chat template.")]
TrustRemoteCode = Annotated[bool, panels.loading("--trust-remote-code", help="Run the code that a model brings along.")]
AllowPickle = Annotated[bool, panels.loading("--allow-pickle", help="Load pickled weights, which can run code.")]
Adapter = Annotated[
    str | None,
    panels.loading("--adapter", help="Folder of a PEFT adapter to merge into MODEL. MODEL may be such a folder too."),
]
LoadIn = Annotated[
    Precision | None, panels.loading("--load-in", help="Quantize the weights with bitsandbytes: nf4 or int8.")
]
Offload = Annotated[
    Elsewhere | None,
    panels.loading("--offload", help="Where weights go that do not fit: main memory (from a GPU), or the disk."),
]
MaxMemory = Annotated[
    str | None,
    panels.loading(
        "--max-memory", help="What weights may take on the device, such as 2GB. Default: 80% of what is free."
    ),
]
DeviceMap = Annotated[Spread | None, panels.loading("--device-map", help="auto: split each model over all GPUs.")]


def loading(
    dtype: Dtype = DtypeName.auto,
    device: Device = "auto",
    revision: Revision = None,
    adapter: Adapter = None,
    load_in: LoadIn = None,
    offload: Offload = None,
    max_memory: MaxMemory = None,
    device_map: DeviceMap = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
) -> Loading:
    """The options that say how a model is loaded."""
    return Loading(
        dtype=dtype.value,
        device=device,
        revision=revision,
        adapter=adapter,
        load_in=load_in,
        offload=offload,
        max_memory=max_memory,
        split=device_map is not None,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )


def scoring(
    samples: Samples = 100,
    max_length: MaxLength = 256,
    batch_tokens: BatchTokens = None,
    seed: Seed = 0,
    column: Column = None,
    template: Template = None,
    chat: Chat = False,
    on: OnWhat = On.all,
    skip_bad: SkipBad = False,
) -> Scoring:
    """The options that say which texts are scored, and how they go through the model."""
    return {
        "samples": samples,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "seed": seed,
        "column": column,
        "template": template,
        "chat": chat,
        "on": on.value,
        "skip_bad": skip_bad,
    }
