"""What `resources.preset` stands for: engine options and training settings for a known machine.

`plan.resolve` applies it before anything is decided by the run, so the stored plan shows what was used. A preset fills
in only what the run file does not say; a value that is written, even one equal to the default, stands.

| | `auto` | `1x24gb` | `1x80gb` | `8xh100` |
|---|---|---|---|---|
| GPUs | what is found | one, 24 GB | one, 80 GB | eight, 80 GB each |
| vLLM: share of memory, sequences, tensor parallelism | the engine's own | 0.90, 32, 1 | 0.92, 256, 1 | 0.92, 256, 4 |
| transformers: sequences | the engine's own | 8 | 64 | 64 |
| longest sequence | the model's own | prompt room + longest response | the same | the same |
| training | as written | LoRA, bf16 | LoRA, bf16 | full, bf16, ZeRO-3, eight processes |
| gradient checkpointing | with a GPU | on | on | on |

- A full fine-tune keeps 16 bytes per parameter (fp32 weights, gradients and two moments): 28 GB for 1.8 billion and 128
  GB for 8 billion parameters, hence adapters on one GPU, and 16 GB per GPU under ZeRO-3 on eight.
- Adapters beside bf16 weights of 8 billion parameters take 16 GB, which leaves a 24 GB card rows of a few thousand
  tokens; lower `max_length` before anything else.
- Tensor parallelism is 4: it must divide the attention heads, and R1-Distill-Qwen-7B has 28, -1.5B has 12.
- The rows of one optimiser step are the run file's on every machine: processes take the place of accumulation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracemend.embedded.runfile import ArmSettings, RunFile
from tracemend.generator.settings import TargetSettings
from tracemend.trainer.settings import LoraSettings, TrainSettings

PROMPT_ROOM_TOKENS = 4096
"""Context kept for a prompt beside the longest response; longer prompts end as `prompt_too_long`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One preset."""

    num_gpus: int
    gpu_bytes: int
    """Memory of one GPU."""
    engine_options: Mapping[str, Mapping[str, object]]
    """Engine to the options that its adapter takes."""
    is_full: bool
    """Whether training without a `lora` section means a full fine-tune; else it gets adapters."""


_LARGE_VLLM = {"memory_share": 0.92, "max_batch": 256}
MACHINES: Mapping[str, Machine] = {
    "1x24gb": Machine(
        num_gpus=1,
        gpu_bytes=24 * 10**9,
        engine_options={
            "vllm": {"memory_share": 0.90, "max_batch": 32, "tensor_parallel": 1},
            "transformers": {"max_batch": 8},
        },
        is_full=False,
    ),
    "1x80gb": Machine(
        num_gpus=1,
        gpu_bytes=80 * 10**9,
        engine_options={"vllm": {**_LARGE_VLLM, "tensor_parallel": 1}, "transformers": {"max_batch": 64}},
        is_full=False,
    ),
    "8xh100": Machine(
        num_gpus=8,
        gpu_bytes=80 * 10**9,
        engine_options={"vllm": {**_LARGE_VLLM, "tensor_parallel": 4}, "transformers": {"max_batch": 64}},
        is_full=True,
    ),
}
"""Preset to machine; `auto` is none of them."""


def with_resources(run: RunFile) -> RunFile:
    """`run` with what its preset says where the file says nothing; applying it again changes nothing."""
    machine = MACHINES.get(run.resources.preset)
    if machine is None:
        return run
    longest = longest_response(run)
    arms = {name: _arm(settings, machine) for name, settings in run.arms.items()}
    return run.model_copy(update={"target": _target(run.target, machine, longest), "arms": arms})


def longest_response(run: RunFile) -> int:
    """Tokens of the longest response that the target may write, in sampling and in evaluation."""
    evaluation = run.evaluate.sampling if run.evaluate else None
    return max(settings.max_new_tokens for settings in (run.target.sampling, evaluation) if settings)


def _target(target: TargetSettings, machine: Machine, longest: int) -> TargetSettings:
    options = machine.engine_options.get(target.engine)
    if options is None or target.model.startswith("proving:"):
        return target
    filled = {**options, "max_model_len": longest + PROMPT_ROOM_TOKENS, **target.engine_options}
    return target.model_copy(update={"engine_options": filled})


def _arm(arm: ArmSettings, machine: Machine) -> ArmSettings:
    return arm.model_copy(update={"train": _train(arm.train, machine)}) if arm.train else arm


def _train(train: TrainSettings, machine: Machine) -> TrainSettings:
    """A validated copy: what the preset adds must fit what the file says."""
    said = train.model_fields_set
    added: dict[str, Any] = {"precision": "bf16", "gradient_checkpointing": True}
    if not machine.is_full:
        added["lora"] = LoraSettings()
    if machine.num_gpus > 1 and not said & {"num_processes", "launcher"}:
        added |= _processes(train, machine.num_gpus)
        is_full = train.lora is None
        added |= {"deepspeed": "zero3"} if is_full and added["num_processes"] > 1 else {}
    unsaid = {name: value for name, value in added.items() if name not in said or name in _BATCH}
    return TrainSettings.model_validate(train.model_dump(include=set(said)) | unsaid)


_BATCH = {"batch_size", "gradient_accumulation"}
"""Rewritten together with the number of processes, as only their product is the recipe's."""


def _processes(train: TrainSettings, num_gpus: int) -> dict[str, Any]:
    """As many processes as divide the rows of an optimiser step, and their share of it."""
    step_rows = train.batch_size * train.gradient_accumulation
    num_processes = math.gcd(num_gpus, step_rows)
    rows = step_rows // num_processes
    batch_size = math.gcd(rows, train.batch_size)
    return {
        "launcher": "subprocess",
        "num_processes": num_processes,
        "batch_size": batch_size,
        "gradient_accumulation": rows // batch_size,
    }
