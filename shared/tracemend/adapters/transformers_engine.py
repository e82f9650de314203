"""The `transformers:` engine: a model folder, batched in this process.

`complete` may be called any number of times at once: a thread of its own forms batches from whatever waits. For
laptops, tests and models that vLLM does not know; on GPUs with many requests `vllm:` is faster.

Seeds: a request's tokens depend on its prompt, sampling and seed. Batches of other shapes give logits that differ by
float noise (1e-6 in float32, more in bfloat16), which changes a token only where two are that close.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

from tracemend.adapters import model_folder
from tracemend.adapters.engine_thread import EngineThread, Inbox
from tracemend.adapters.tokens import Tokens
from tracemend.adapters.transformers_loading import cache_tokens, load_model, model_len
from tracemend.adapters.transformers_worker import Worker
from tracemend.kit.ports import Capabilities, Completion, ModelRequest
from tracemend.kit.torch_threads import settle_threads


class TransformersEngine:
    """A `TextModel` over a Hugging Face model folder."""

    def __init__(
        self, folder: Path, *, device: str = "auto", dtype: str = "auto", max_batch: int = 64,
        max_tokens: int | None = None, max_model_len: int | None = None, num_threads: int | None = None,
        kept_mb: int = 256,
    ) -> None:  # fmt: skip
        """Load the model; blocks until it can serve. Raises `SetupError`.

        `device`: `auto` is CUDA where there is one. `dtype`: `auto` is the stored one on CUDA, float32 on a CPU.
        `max_batch`: rows written together. `max_tokens`: rows times columns of the key-value cache at most, by default
        what fits into memory. `num_threads`: of torch on a CPU; by default OMP_NUM_THREADS, else two at most.
        `kept_mb`: MiB of keys and values of finished responses that are kept for requests that begin as they did; 0
        keeps none.
        """
        self.identity = model_folder.identity_of(folder)
        self._inbox = Inbox()

        def load() -> tuple[int, Callable[[], None]]:
            settle_threads(num_threads)
            model = load_model(folder, device=device, dtype=dtype)
            max_len = model_len(model, asked=max_model_len)
            num_columns = cache_tokens(model, asked=max_tokens)
            worker = Worker(
                model, Tokens(folder), self._inbox, max_batch=max_batch, max_tokens=num_columns, max_model_len=max_len,
                kept_bytes=kept_mb * 2**20,
            )  # fmt: skip
            return max_len, worker.run

        self._thread = EngineThread(load, self._inbox, name="transformers-engine")
        self.capabilities = Capabilities(
            token_ids=True, logprobs=True, prefix_cache=kept_mb > 0, seeds=True, max_model_len=self._thread.loaded
        )

    async def complete(self, request: ModelRequest) -> Completion:
        return await self._inbox.complete(request)

    async def aclose(self) -> None:
        self._inbox.stop()
        await self._thread.join()
        gc.collect()
        _empty_cuda_cache()


def _empty_cuda_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
