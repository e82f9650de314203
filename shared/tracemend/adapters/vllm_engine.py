"""The `vllm:` engine: a model folder served by vLLM inside this program, with continuous batching.

Two drivers behind one adapter. `inline` steps vLLM's engine in a thread of this process: it starts in seconds, which
laptops and tests want. `process` is vLLM's own asynchronous engine with its core in another process: the event loop
and the GPU do not wait for each other. `auto` takes `inline` on a CPU build and `process` otherwise.

Requests go in as they come, so the batch stays full; a cancelled request is aborted; ids in, ids out: a continuation
is exact by construction, and its prefix is read from vLLM's prefix cache.
"""

from __future__ import annotations

from pathlib import Path

from tracemend.adapters import model_folder
from tracemend.adapters.vllm_inline import InlineDriver
from tracemend.adapters.vllm_process import ProcessDriver
from tracemend.adapters.vllm_setup import VllmOptions, is_cpu_build, prepare_environment
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Capabilities, Completion, ModelRequest


class VllmEngine:
    """A `TextModel` over a Hugging Face model folder."""

    def __init__(
        self, folder: Path, *, driver: str = "auto", dtype: str = "auto", max_batch: int = 256,
        max_model_len: int | None = None, tensor_parallel: int = 1, memory_share: float = 0.9, cpu_cache_gb: int = 1,
    ) -> None:  # fmt: skip
        """Load the model; blocks until it can serve. Raises `SetupError`.

        `memory_share` is the share of GPU memory for weights and cache; `cpu_cache_gb` the cache on a CPU in GiB.
        """
        self.identity = model_folder.identity_of(folder)
        on_cpu = is_cpu_build()
        if driver not in ("auto", "inline", "process"):
            raise SetupError(f"unknown vLLM driver '{driver}': choose auto, inline or process")
        options = VllmOptions(
            dtype=dtype, max_batch=max_batch, max_model_len=max_model_len, tensor_parallel=tensor_parallel,
            memory_share=memory_share, cpu_cache_gb=cpu_cache_gb,
        )  # fmt: skip
        inline = on_cpu if driver == "auto" else driver == "inline"
        prepare_environment(inline=inline, on_cpu=on_cpu, options=options)
        kind = InlineDriver if inline else ProcessDriver
        self._driver: InlineDriver | ProcessDriver = kind(folder, on_cpu=on_cpu, options=options)
        self.capabilities = Capabilities(
            token_ids=True, logprobs=True, prefix_cache=True, seeds=True, max_model_len=self._driver.max_model_len
        )

    async def complete(self, request: ModelRequest) -> Completion:
        return await self._driver.complete(request)

    async def aclose(self) -> None:
        await self._driver.aclose()
