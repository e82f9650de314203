"""Memory per GPU: weights, key-value cache and optimiser, by the shape of the target.

Called by the estimate and by `doctor`. Bytes are decimal. The formulas count tensors and leave a named share for what a
framework takes beside them; they are meant to say whether a plan can fit, not to the last megabyte. Preference training
reads two sides per row, counted as if both were of full length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tracemend.embedded.architectures import Architecture, find_architecture
from tracemend.embedded.resources import MACHINES, PROMPT_ROOM_TOKENS, Machine, longest_response, with_resources
from tracemend.embedded.runfile import RunFile
from tracemend.kit.errors import SetupError
from tracemend.trainer.algorithm import make_algorithm
from tracemend.trainer.settings import TrainSettings

_OVERHEAD_BYTES = 2 * 10**9
"""CUDA context, workspaces and fragmentation."""
_ADAM_BYTES = 16
"""Per trained parameter: fp32 weight, gradient and two moments."""
_CHECKPOINTED_FACTOR = 2
_FULL_FACTOR = 34
"""Bytes of activations per token, layer and hidden unit, with and without gradient checkpointing (Korthikanti et al.
2022, eq. 1 without the attention scores that fused kernels never keep)."""
_LOGIT_BYTES = 8
"""Per token and vocabulary entry: logits in half precision and their gradient in full."""
_LOGIT_TILE = (4096, 32_768)
"""Tokens and vocabulary entries that preference training holds logits of at once: TRL's tiles of a fused head."""
_MASK_BYTES = 3
"""Per pair of positions of the shared layout's mask: who sees whom, and the same as half-precision scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """What one phase takes on one GPU of a machine."""

    machine: str
    phase: str
    need_bytes: int
    have_bytes: int
    parts: dict[str, int]
    """Bytes by what takes them."""
    advice: str = ""
    """Which setting to change where it does not fit."""

    @property
    def fits(self) -> bool:
        return self.need_bytes <= self.have_bytes


def memory_needs(run: RunFile) -> tuple[tuple[MemoryNeed, ...], tuple[str, ...]]:
    """The needs of `run` on every preset, and notes on what could not be told."""
    if run.target.engine not in ("transformers", "vllm"):
        return (), ("memory: the target is served elsewhere",)
    if run.target.model.startswith("proving:"):
        return (), ("memory: the proving ground's model fits anywhere",)
    try:
        shape = find_architecture(run.target.model)
    except SetupError as problem:
        return (), (f"memory: {problem}",)
    if shape is None:
        return (), (f"memory: {run.target.model} has no config.json and is no published model that is known here",)
    if shape.num_experts:
        return (), (f"memory: {run.target.model} is a mixture of experts, whose weights are not counted here",)
    return tuple(need for name in MACHINES for need in _on(name, run, shape)), ()


def weight_bytes(shape: Architecture) -> int:
    """Weights in half precision."""
    return 2 * shape.num_parameters


def _on(name: str, run: RunFile, shape: Architecture) -> Iterator[MemoryNeed]:
    machine = MACHINES[name]
    resources = run.resources.model_copy(update={"preset": name})
    there = with_resources(run.model_copy(update={"resources": resources}))
    yield _serving(name, machine, there, shape)
    seen: list[TrainSettings] = []
    for arm, settings in there.arms.items():
        if settings.train is not None and settings.train not in seen:
            seen.append(settings.train)
            yield _training(name, machine, arm, settings.train, shape)


def _serving(name: str, machine: Machine, run: RunFile, shape: Architecture) -> MemoryNeed:
    """One sequence of full length must fit beside the weights; more of them make it fast."""
    options = run.target.engine_options
    wide = max(1, _int(options.get("tensor_parallel"), 1))
    longest = longest_response(run) + PROMPT_ROOM_TOKENS
    cache = shape.kv_bytes_per_token() * longest // wide
    parts = {"weights": weight_bytes(shape) // wide, "cache of one sequence": cache, "overhead": _OVERHEAD_BYTES}
    need = sum(parts.values())
    advice = ""
    if need > machine.gpu_bytes:
        advice = "lower target.sampling.max_new_tokens, raise engine_options.tensor_parallel, or take a smaller model"
    return MemoryNeed(
        machine=name, phase="sample", need_bytes=need, have_bytes=machine.gpu_bytes, parts=parts, advice=advice
    )


def _training(name: str, machine: Machine, arm: str, train: TrainSettings, shape: Architecture) -> MemoryNeed:
    shards = train.num_processes if train.deepspeed == "zero3" else 1
    longest = train.max_length if isinstance(train.max_length, int) else 8192
    algorithm = make_algorithm(train)
    sides = 2 if algorithm.kind == "pairs" else 1
    tokens = train.batch_size * sides * longest
    factor = _FULL_FACTOR if train.gradient_checkpointing is False else _CHECKPOINTED_FACTOR
    if train.lora is not None:
        trained = shape.num_lora_parameters(rank=train.lora.r, targets=train.lora.targets)
        parts = {"weights": weight_bytes(shape), "adapter and optimiser": _ADAM_BYTES * trained}
    else:
        states = _ADAM_BYTES * shape.num_parameters // shards
        parts = {"weights, gradients and optimiser": 0 if train.offload else states}
    parts["activations"] = factor * tokens * shape.hidden * shape.num_layers
    parts["one layer at work"] = _FULL_FACTOR * tokens * shape.hidden
    parts["logits"] = _LOGIT_BYTES * _num_logits(tokens, shape.vocab, is_fused=sides == 2)
    if algorithm.options.get("shared_prefix", "off") != "off":
        # What two sides share stands once, but how much that is, is not known before the run: none is the most.
        parts["mask"] = _MASK_BYTES * train.batch_size * (sides * longest) ** 2
    parts["overhead"] = _OVERHEAD_BYTES
    need = sum(parts.values())
    advice = _training_advice(arm, train, parts, machine.gpu_bytes) if need > machine.gpu_bytes else ""
    return MemoryNeed(
        machine=name, phase=f"train {arm}", need_bytes=need, have_bytes=machine.gpu_bytes, parts=parts, advice=advice
    )


def _num_logits(tokens: int, vocab: int, *, is_fused: bool) -> int:
    """Logits that stand in memory at once."""
    if not is_fused:
        return tokens * vocab
    tile_tokens, tile_vocab = _LOGIT_TILE
    return min(tokens, tile_tokens) * min(vocab, tile_vocab)


def _training_advice(arm: str, train: TrainSettings, parts: dict[str, int], have_bytes: int) -> str:
    where = f"arms.{arm}.train"
    by_length = sum(parts.get(name, 0) for name in ("activations", "one layer at work", "logits", "mask"))
    if sum(parts.values()) - by_length < 0.9 * have_bytes:
        changes = [f"{where}.max_length (now {train.max_length})"]
        changes += [f"{where}.batch_size (now {train.batch_size})"] if train.batch_size > 1 else []
        return "lower " + " or ".join(changes)
    return f"set {where}.lora" if train.lora is None else "take a smaller model or a larger GPU"


def _int(value: object, default: int) -> int:
    return value if isinstance(value, int) else default
