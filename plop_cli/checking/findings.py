"""What is to be known of a config and a model: a function for each kind of finding."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from plop_cli.checking.body import Body
from plop_cli.checking.trial import Trial
from plop_cli.checking.wanted import ALL, Finding, Level, Wanted
from plop_cli.errors import nearest
from plop_cli.placement.peft import task_type
from plop_cli.placement.refused import REASON, refused
from plop_cli.placement.targets import hits
from plop_cli.words import counted, listed

Hits = Mapping[str, Sequence[str]]

EXPERT_NAMES = {"gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3"}


def dead(wanted: Wanted, body: Body, found: Hits, adapted: Collection[str]) -> Iterator[Finding]:
    """Targets that hit nothing."""
    parts = sorted({name.rpartition(".")[2] for name in body.names if not name.rpartition(".")[2].isdigit()})
    for target, names in found.items():
        if names or (target in EXPERT_NAMES and set(body.stacks) & set(adapted)):
            continue
        if target == ALL:
            yield Finding("error", "dead-name", f"all-linear hits nothing: {body.architecture} has no linear module")
        elif isinstance(wanted.targets, str) and wanted.format != "nemo-automodel":
            hint = _as_list(wanted.targets, body)
            yield Finding("error", "dead-name", f"{target!r}, read as a regular expression, fits no whole path{hint}")
        elif left := hits([target], body.names):
            text = f"{target} names {counted(len(left), 'module')}, of which layers_to_transform, layers_pattern or"
            yield Finding("warning", "dead-name", f"{text} exclude_modules leave none")
        else:
            near = nearest(target.rpartition(".")[2], parts)
            stack = [name for name in body.stacks if target in EXPERT_NAMES]
            why = f"; the experts of this model are one parameter, {stack[0].rpartition('.')[2]}" if stack else ""
            meant = f"; did you mean {' or '.join(near)}?" if near and not stack else ""
            yield Finding("warning", "dead-name", f"{target} hits no module of {body.architecture}{why}{meant}")
    keys = [*body.stacks, *(f"{name}.weight" for name in body.names)]
    for parameter in wanted.parameters:
        if not hits([parameter], keys):
            yield Finding("warning", "dead-name", f"{parameter} is no parameter of {body.architecture}")


def _as_list(pattern: str, body: Body) -> str:
    listed_too = hits([pattern], body.names)
    return f"; in a list it would hit {counted(len(listed_too), 'module')}" if listed_too else ""


def uneven(body: Body, found: Hits, adapted: Collection[str]) -> Iterator[Finding]:
    """Targets that hit some blocks and miss others.

    Blocks without such a module are a warning where one of them gets no adapter by any target. Those that have it are
    left out by the config itself (its layers, its exclusions, a regex or a path), which is a note.
    """
    blocks, reached = body.layers(body.names), body.layers(adapted)
    for target, names in found.items():
        having = None
        for holder, numbers in body.layers(names).items():
            if not (missed := blocks[holder] - numbers):
                continue
            having = having or body.layers(body.alike(names))
            text = f"{_short(target)} is in {len(numbers)} of {len(blocks[holder])} blocks of {holder}"
            if left := sorted(missed & having[holder]):
                yield Finding("note", "left-out", f"{text}: the config itself leaves out {_numbers(left)}")
            if lacking := sorted(missed - having[holder]):
                other = _instead(body, holder, having[holder], lacking)
                level: Level = "note" if reached.get(holder, set()).issuperset(lacking) else "warning"
                yield Finding(level, "uneven", f"{text}, not in {_numbers(lacking)}, which have {other}")


def _instead(body: Body, holder: str, having: Collection[int], lacking: Collection[int]) -> str:
    """What the blocks that lack a module have and those with it have not."""
    inside: dict[bool, set[str]] = {True: set(), False: set()}
    for module in body.modules:
        if module.name.startswith(f"{holder}.") and (module.layer in having or module.layer in lacking):
            rest = module.place[len(holder) + 1 :].partition(".")[2]
            inside[module.layer in having].add(rest)
    other = sorted(inside[False] - inside[True])
    return listed(other) or "no such module"


def _numbers(found: Sequence[int]) -> str:
    """0–2, 4–6 and 8."""
    spans: list[list[int]] = []
    for number in found:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return listed([f"{first}" if first == last else f"{first}–{last}" for first, last in spans])


def _short(target: str) -> str:
    return target if len(target) <= 60 else f"{target[:57]}…"


def unmeant(body: Body, found: Hits, adapted: Collection[str]) -> Iterator[Finding]:
    """Modules outside of the text's blocks that a target hits beside those inside."""
    scored = {module.place for module in body.modules}
    for target, names in found.items():
        inside = [name for name in names if name in scored]
        reasons: dict[str, list[str]] = {}
        for name in names:
            if name in body.others and name in adapted:
                reasons.setdefault(body.others[name], []).append(name)
        for reason, others in reasons.items():
            if inside:
                text = f"{_short(target)} also hits {counted(len(others), 'module')} such as {others[0]} ({reason})"
                yield Finding("warning", "not-meant", text)


def frozen(wanted: Wanted, body: Body, adapted: Collection[str]) -> Iterator[Finding]:
    """What gets no adapter though the config likely means it: experts, and what stands in attention's place."""
    stacks = [name for name in body.stacks if name not in adapted]
    if stacks and not set(body.stacks) & set(adapted):
        names = (
            {target.rpartition(".")[2] for target in wanted.targets} if not isinstance(wanted.targets, str) else set()
        )
        asked = wanted.targets == ALL or bool(names & EXPERT_NAMES)
        kinds = sorted({name.rpartition(".")[2] for name in stacks})
        text = f"the experts stay frozen ({listed(kinds)} in {counted(len(stacks), 'parameter')})"
        remedy = "" if wanted.format in ("llamafactory", "torchtune", "mlx-lm") else "; target_parameters can name them"
        yield Finding("warning" if asked else "note", "frozen-experts", text + remedy)
    left = sorted({module.type for module in body.modules if module.place not in adapted and module.expert is None})
    if left:
        yield Finding("note", "frozen", f"no adapter on {listed(left)}")


def refusals(wanted: Wanted, body: Body, found: Hits, trial: Trial | None) -> Iterator[Finding]:
    """What the trainer or PEFT does not take."""
    if trial and trial.refusal:
        yield Finding("error", "refused", f"PEFT refuses it: {trial.refusal}")
        return
    reached = [name for names in found.values() for name in names]
    if trial is None and wanted.format not in ("torchtune", "mlx-lm", "nemo-automodel"):
        if names := refused(body.architecture, reached):
            yield Finding("error", "refused", f"{names[0]} and {len(names) - 1} more: {REASON}")
        if wanted.parameters and wanted.dropout:
            text = f"PEFT refuses lora_dropout {wanted.dropout:g} together with target_parameters; set it to 0"
            yield Finding("error", "refused", text)
    for text in trial.warnings if trial else ():
        if "tie" in text:
            yield Finding("warning", "tied", text)
        elif not any(known in text for known in ("was matched", "fan_in_fan_out", "_pattern keys")):
            yield Finding("note", "peft-says", text)


def lost(body: Body, found: Hits, trial: Trial | None) -> Iterator[Finding]:
    """Linear modules that a target names and PEFT leaves out: it takes some names for those of fused experts."""
    if trial is None or trial.refusal:
        return
    linear, adapted = set(body.linear), set(trial.adapted)
    for target, names in found.items():
        if left := [name for name in names if name in linear and name not in adapted]:
            text = f"{_short(target)} names {counted(len(left), 'module')} such as {left[0]} that PEFT leaves out"
            remedy = (
                f"it takes the name for the experts'; put {left[0].rpartition('.')[2]}.weight into target_parameters"
            )
            yield Finding("warning", "lost", f"{text}: {remedy}")


def tasks(wanted: Wanted, body: Body) -> Iterator[Finding]:
    """A task type that is not the model's."""
    right = task_type(body.architecture, body.names)
    if wanted.task_type and wanted.task_type != right and wanted.task_type != "FEATURE_EXTRACTION":
        text = f"the task type is {wanted.task_type}, and {body.architecture} is for {right or 'none of PEFT’s tasks'}"
        yield Finding("warning", "task-type", text)


SERVERS = ("vllm", "sglang")
_VLLM_DEFAULT, _VLLM_MOST = 16, 512
_SGLANG = {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj"}


def serving(wanted: Wanted, adapted: Sequence[str], servers: Collection[str]) -> Iterator[Finding]:
    """What a server will not load. vLLM: vllm/config/lora.py, lora/peft_helper.py. SGLang: srt/utils/common.py."""
    rank = max([wanted.rank, *wanted.rank_pattern.values()])
    if "vllm" in servers:
        if rank > _VLLM_MOST:
            yield Finding("error", "serving", f"vLLM loads ranks up to {_VLLM_MOST}, and this is {rank}")
        elif rank > _VLLM_DEFAULT:
            text = f"vLLM loads ranks up to {_VLLM_DEFAULT} unless started with --max-lora-rank {_fit(rank)}"
            yield Finding("warning", "serving", text)
        if wanted.modules_to_save:
            yield Finding("error", "serving", "vLLM loads no adapter with modules_to_save; merge it instead")
        if wanted.dora:
            yield Finding("error", "serving", "vLLM loads no DoRA; merge the adapter instead")
    if "sglang" in servers:
        others = sorted({name.rpartition(".")[2] for name in adapted} - _SGLANG)
        if others:
            yield Finding("warning", "serving", f"SGLang may have no LoRA for {listed(others)} of this model")
        text = f"SGLang's largest rank is that of its first adapters; else start it with --max-lora-rank {rank}"
        yield Finding("note", "serving", text)


def _fit(rank: int) -> int:
    """The smallest that vLLM can be told."""
    return next(most for most in (32, 64, 128, 256, 320, 512) if rank <= most)
