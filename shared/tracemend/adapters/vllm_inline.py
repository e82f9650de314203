"""vLLM's engine stepped in a thread of this process.

Called by the vLLM engine. The thread owns the engine, its tokenizer included; requests cross over through the inbox
between two steps, so a request that comes while others are being written joins them at the next token.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.adapters.engine_thread import EngineThread, Inbox, Item
from tracemend.adapters.token_requests import prepare
from tracemend.adapters.tokens import Tokens
from tracemend.adapters.vllm_setup import (
    SharedTime,
    VllmOptions,
    build,
    completion_from,
    sampling_params,
)
from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.kit.ports import Completion, ModelRequest

_alone = threading.Lock()
"""Held by the one inline engine of this process: vLLM keeps its distributed state in globals."""


class InlineDriver:
    """Owns the thread; `max_model_len` is known once it is loaded."""

    def __init__(self, folder: Path, *, on_cpu: bool, options: VllmOptions) -> None:
        self._inbox = Inbox()
        if not _alone.acquire(blocking=False):
            raise SetupError(
                "vLLM engines in this process can only be open one at a time: close the other first, set the option "
                "driver to 'process', or serve one of the models with vLLM's own server (openai:…)"
            )

        def load() -> tuple[int, Callable[[], None]]:
            import torch
            from vllm import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine

            tokens = Tokens(folder)  # first: it may be refused, and a built engine must be taken down
            set_num_threads = torch.set_num_threads
            try:
                engine = build(LLMEngine, EngineArgs, folder, on_cpu=on_cpu, options=options)
            finally:  # on a CPU vLLM puts one there that does nothing, for all that this process will ever train
                torch.set_num_threads = set_num_threads
            worker = _Worker(engine, tokens, self._inbox)
            return worker.max_model_len, worker.run

        try:
            self._thread = EngineThread(load, self._inbox, name="vllm-engine")
        except BaseException:
            _alone.release()
            raise
        self.max_model_len = self._thread.loaded

    async def complete(self, request: ModelRequest) -> Completion:
        """As `TextModel.complete`."""
        return await self._inbox.complete(request)

    async def aclose(self) -> None:
        """Abort what is under way, free the engine."""
        self._inbox.stop()
        await self._thread.join()


@dataclass(frozen=True, slots=True)
class _Going:
    """A request inside vLLM."""

    item: Item
    num_prompt_tokens: int
    mark: float


class _Worker:
    """The thread's work: requests in, steps, completions out."""

    def __init__(self, engine: Any, tokens: Tokens, inbox: Inbox) -> None:
        self._engine = engine
        self._tokens = tokens
        self._inbox = inbox
        self._time = SharedTime()
        self._line: deque[Item] = deque()
        """What has arrived and is not yet inside vLLM."""
        self._going: dict[str, _Going] = {}
        self._num_requests = 0
        self.max_model_len = int(engine.model_config.max_model_len)
        self._vocab = int(engine.model_config.get_vocab_size())

    def run(self) -> None:
        """Work until the inbox stops; what is unfinished then, or if the engine breaks, ends with `Retry`."""
        try:
            while (arrived := self._inbox.take(block=not self._going)) is not None:
                self._line.extend(arrived)
                while self._line:
                    self._admit(self._line[0])
                    self._line.popleft()
                self._abort_cancelled()
                if self._going:
                    for output in self._engine.step():
                        self._finish(output)
        finally:
            for item in (*self._line, *(going.item for going in self._going.values())):
                item.fail(Retry("engine_closed"))
            self._shut_down()

    def _admit(self, item: Item) -> None:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input

        if item.future.cancelled():
            return
        self._num_requests += 1
        name = str(self._num_requests)
        try:
            fitted = prepare(item.request, self._tokens, max_model_len=self.max_model_len, vocab=self._vocab)
            params = sampling_params(item.request, max_new_tokens=fitted.max_new_tokens, end_ids=self._tokens.end_ids)
            self._engine.add_request(name, tokens_input(list(fitted.prompt)), params)
        except (Reject, ValueError, TypeError, LookupError, VLLMClientError) as error:  # its caller's alone
            item.fail(error)
            return
        self._going[name] = _Going(item, len(fitted.prompt), self._time.enter())

    def _abort_cancelled(self) -> None:
        cancelled = [name for name, going in self._going.items() if going.item.future.cancelled()]
        if cancelled:
            self._engine.abort_request(cancelled)
        for name in cancelled:
            self._time.leave(self._going.pop(name).mark)

    def _finish(self, output: Any) -> None:
        going = self._going.pop(output.request_id, None)
        if going is None or not output.finished:
            assert going is None, "final outputs alone were asked for"
            return
        seconds = self._time.leave(going.mark)
        try:
            completion = completion_from(
                output, going.item.request, self._tokens, num_prompt_tokens=going.num_prompt_tokens, seconds=seconds
            )
        except Retry as error:
            going.item.fail(error)
            return
        going.item.finish(completion)

    def _shut_down(self) -> None:
        """Free the engine, and the process-wide state that would be in the way of the next one."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        try:
            self._engine.engine_core.shutdown()
            self._engine = None
            cleanup_dist_env_and_memory()
        finally:
            _alone.release()
