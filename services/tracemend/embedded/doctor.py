"""Examining a model before a run is built on it: what its folder says, and what five samples of it show.

`tracemend doctor` prints the findings. Without weights the folder alone is examined. With weights, samples are drawn by
the generator that a run would use, and the train-serve fidelity gate is asked about them as if they were training rows:
what it objects to here, it would object to before a training.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tracemend.adapters import model_folder
from tracemend.embedded.architectures import Architecture, read_architecture
from tracemend.embedded.checking import Check, check_template, checked
from tracemend.embedded.memory import weight_bytes
from tracemend.embedded.models import Engine, Target
from tracemend.generator.service import plan_samples
from tracemend.generator.settings import TargetSettings
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ids import make_id
from tracemend.kit.paths import path_of
from tracemend.kit.settings import SamplingSettings
from tracemend.records import Category, Example, Finish, OutcomeState, Parse, Prompt, Trajectory, Unit
from tracemend.redaction import Text
from tracemend.traces.loading import load_tokenizer
from tracemend.traces.template import ChatTemplate
from tracemend.trainer.fidelity import Objection, objections
from tracemend.trainer.preparation import load_base
from tracemend.trainer.rendering import render_rows
from tracemend.trainer.settings import TrainSettings

NUM_SAMPLES = 5
_QUESTIONS = (
    "What is 17 times 23?",
    "Name three things that float on water and say why.",
    "A train leaves at nine and arrives at half past eleven. How long does it take?",
    "Write one sentence about rain.",
    "Is seven a prime number? Explain.",
)


async def examine(target: TargetSettings, *, questions: Sequence[str] = ()) -> list[Check]:
    """Everything that can be found out about the model folder `target.model`; `questions` replace our own five."""
    folder = path_of(target.model)
    if not folder.is_dir():
        raise SetupError(f"no folder '{folder}'; give the path of a Hugging Face model folder")
    if not (folder / "config.json").is_file():
        raise SetupError(f"{folder} has no config.json: this is not a Hugging Face model folder")
    found = [checked("shape", lambda: _shape(read_architecture(folder)))]
    found.append(await asyncio.to_thread(checked, "template", lambda: check_template(folder, target.reasoning_format)))
    found.append(await asyncio.to_thread(checked, "end token", lambda: _end_token(folder, target.reasoning_format)))
    found.append(checked("weights", lambda: _weights(folder)))
    if not all(check.holds for check in found if check.what != "shape"):
        return [*found, Check(what="samples", holds=False, detail="not drawn: put the problems above right first")]
    prompts = [_prompt(text) for text in (questions or _QUESTIONS)[:NUM_SAMPLES]]
    try:
        trajectories = await _sample(Target(settings=target, folder=folder), prompts, target.sampling)
    except (SetupError, Reject) as problem:
        return [*found, Check(what="samples", holds=False, detail=str(problem))]
    return [*found, *_findings(trajectories, folder, target)]


def _shape(shape: Architecture) -> str:
    weights, cache = weight_bytes(shape) / 1e9, shape.kv_bytes_per_token() / 1e3
    if shape.num_experts:
        return f"{shape.model_type}, a mixture of {shape.num_experts} experts, context {shape.context:,}"
    return (
        f"{shape.model_type}, {shape.num_parameters / 1e9:.3g} billion parameters, context {shape.context:,}; "
        f"{weights:.3g} GB of weights in half precision, {cache:.3g} kB of cache per token"
    )


def _end_token(folder: Path, reasoning_format: str) -> str:
    """The token that training will teach must be one that serving stops at."""
    template = ChatTemplate.load(folder, reasoning_format)
    taught = template.response_tokens(Text(""), Text("Yes."))[-1]
    config = load_tokenizer(folder).generation_end_ids
    if config and taught not in config:
        raise SetupError(
            f"responses are taught to end by token {taught}, but generation_config.json stops at "
            f"{', '.join(map(str, config))} alone: other servers would write on; add {taught} to its eos_token_id"
        )
    return f"token {taught} is taught; {', '.join(map(str, sorted(template.end_token_ids)))} end a response"


def _weights(folder: Path) -> str:
    model_folder.check(folder)
    num_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return f"safetensors, {num_bytes / 1e9:.3g} GB"


async def _sample(target: Target, prompts: Sequence[Prompt], sampling: SamplingSettings) -> list[Trajectory]:
    engine = Engine()
    try:
        generator = await engine.on(target)
        requests = [
            plan_samples(prompt, model=generator.identity, sampling=sampling.record(), num_samples=1)[0]
            for prompt in prompts
        ]
        return list(await asyncio.gather(*(generator.generate(request) for request in requests)))
    finally:
        await engine.release()


def _findings(trajectories: Sequence[Trajectory], folder: Path, target: TargetSettings) -> list[Check]:
    num = len(trajectories)
    closed = sum(t.parse is Parse.CLOSED for t in trajectories)
    parses = Counter(t.parse.value for t in trajectories)
    ended = sum(t.finish is Finish.STOP for t in trajectories)
    lengths = ", ".join(
        f"{t.reasoning_tokens.end - t.reasoning_tokens.start}+{t.answer_tokens.end - t.answer_tokens.start}"
        for t in trajectories
    )
    split = "; ".join(f"{number} {parse}" for parse, number in sorted(parses.items()))
    wants_reasoning = ChatTemplate.load(folder, target.reasoning_format).format.has_reasoning
    return [
        Check(
            what="reasoning",
            holds=not wants_reasoning or closed > 0,
            detail=f"{split} of {num}" + ("" if closed or not wants_reasoning else _NO_REASONING),
        ),
        Check(
            what="ends by itself",
            holds=ended > 0,
            detail=f"{ended} of {num} within {target.sampling.max_new_tokens:,} tokens"
            + ("" if ended else ": raise --max-new-tokens, or check the end token"),
        ),
        Check(what="lengths", holds=True, detail=f"reasoning+answer tokens: {lengths}"),
        *_gate(trajectories, folder, target),
    ]


_NO_REASONING = ": no sample closed its reasoning; try another --reasoning-format, or more tokens"


def _gate(trajectories: Sequence[Trajectory], folder: Path, target: TargetSettings) -> list[Check]:
    """The fidelity gate on the finished samples, rendered as we train and as the model's own template would."""
    usable = [t for t in trajectories if t.is_finished and t.answer.strip()]
    if not usable:
        return [Check(what="training", holds=False, detail="no finished sample to render as a training row")]
    ours = _objections(usable, folder, target, TrainSettings())
    theirs = _objections(usable, folder, target, TrainSettings(render="model_template"))
    detail = "; ".join(o.message for o in ours) or f"{len(usable)} finished samples render, split and end as served"
    note = ", ".join(o.name for o in theirs)
    return [
        Check(what="training", holds=not ours, detail=detail),
        Check(
            what="the model's own template",
            holds=True,
            detail=f"training would refuse it ({note}); `render: chat`, the default, avoids it" if note else "alike",
        ),
    ]


def _objections(
    trajectories: Sequence[Trajectory], folder: Path, target: TargetSettings, settings: TrainSettings
) -> list[Objection]:
    base = load_base(folder, target.reasoning_format, target.system)
    examples = [_example(trajectory) for trajectory in trajectories]
    rows = render_rows(examples, base.template, base.tokenizer, settings, system=base.system)
    return objections(rows, base.template, settings, limits=base.limits, num_examples=len(examples), system=base.system)


def _prompt(text: str) -> Prompt:
    return Prompt(id=make_id("prompt", text), text=Text(text), category=Category.BENIGN, source="doctor")


def _example(trajectory: Trajectory) -> Example:
    return Example(
        id=trajectory.id,
        unit=Unit(arm="doctor", prompt=trajectory.prompt.id),
        prompt=trajectory.prompt,
        reasoning=trajectory.reasoning,
        answer=trajectory.answer,
        state=OutcomeState.KEPT,
        strategy="",
    )
