"""vLLM's asynchronous engine, its core in another process.

Called by the vLLM engine where a GPU does the work. All requests must come from one event loop: vLLM's front end
attaches to the first that it sees.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tracemend.adapters.token_requests import prepare
from tracemend.adapters.tokens import Tokens
from tracemend.adapters.vllm_setup import SharedTime, VllmOptions, build, completion_from, sampling_params
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Completion, ModelRequest


class ProcessDriver:
    """Owns the front end and, through it, the engine's process."""

    def __init__(self, folder: Path, *, on_cpu: bool, options: VllmOptions) -> None:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._tokens = Tokens(folder)  # first: it may be refused, and nobody would end the process
        self._engine: Any = build(AsyncLLM, AsyncEngineArgs, folder, on_cpu=on_cpu, options=options, measures=True)
        self._time = SharedTime()
        self._names = itertools.count()
        self._closed = False
        self._under_way: set[asyncio.Task[Any]] = set()
        self.max_model_len = int(self._engine.model_config.max_model_len)
        self._vocab = int(self._engine.model_config.get_vocab_size())

    async def complete(self, request: ModelRequest) -> Completion:
        """As `TextModel.complete`; vLLM aborts the request when this is cancelled."""
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if self._closed:
            raise Retry("engine_closed")
        fitted = prepare(request, self._tokens, max_model_len=self.max_model_len, vocab=self._vocab)
        params = sampling_params(request, max_new_tokens=fitted.max_new_tokens, end_ids=self._tokens.end_ids)
        prompt = tokens_input(list(fitted.prompt))
        mark, seconds, last = self._time.enter(), 0.0, None
        try:
            last = await self._last(self._engine.generate(prompt, params, str(next(self._names))))
        except EngineGenerateError:
            raise Retry("engine_closed" if self._closed else "engine_failed") from None
        except EngineDeadError:
            if self._closed:
                raise Retry("engine_closed") from None
            raise SetupError(
                "vLLM's process has ended, and its last words are on stderr: where memory ran out, lower the options "
                "max_batch, max_model_len or memory_share; then start again"
            ) from None
        finally:
            seconds = self._time.leave(mark)
        if last is None or not last.finished:
            raise Retry("engine_closed" if self._closed else "engine_aborted")
        return completion_from(last, request, self._tokens, num_prompt_tokens=len(fitted.prompt), seconds=seconds)

    async def _last(self, outputs: AsyncIterator[Any]) -> Any:
        """The last of `outputs`; none once the engine is closed."""

        async def read() -> Any:
            last = None
            async for output in outputs:
                last = output
            return last

        reading = asyncio.create_task(read())
        self._under_way.add(reading)
        try:
            return await reading
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            return None
        finally:
            self._under_way.discard(reading)

    async def aclose(self) -> None:
        """Abort what is under way, end the engine's process."""
        self._closed = True
        engine, self._engine = self._engine, None
        # vLLM stops reading what its process says before it ends it: who still waits then would wait for ever.
        under_way = list(self._under_way)
        for reading in under_way:
            reading.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if engine is not None:
            await asyncio.to_thread(engine.shutdown)
