"""A thread that owns an engine, and the line of requests in front of it.

Called by the engines that run a model in this process: torch counts its threads per calling thread, tokenizers are
not thread-safe, and a forward must not stall the event loop, so one thread does everything about a model. Requests
cross over as items of an `Inbox`; completions come back through futures.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Completion, ModelRequest

R = TypeVar("R")

_SWITCH_S = 0.0002
"""How long the event loop may keep the interpreter from the engine's thread once that asks for it. The engine lets go
at every tensor operation and would wait Python's 5 ms each time to come back, while anything else computes."""


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A request under way, and where its completion goes."""

    request: ModelRequest
    future: Future[Completion]

    def finish(self, completion: Completion) -> None:
        """Hand the completion over, unless the caller has given up."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(completion)

    def fail(self, error: Exception) -> None:
        """Hand an error over, unless the caller has given up."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Inbox:
    """Items in the order they came. Once stopped or closed, it takes no more, and none is lost: `close` gives back the
    rest."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Item | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = False
        self._closed = False

    async def complete(self, request: ModelRequest) -> Completion:
        """Put a request in and wait for its completion; cancelling gives it up. `Retry` if the engine was stopped, and
        `SetupError` if it ended by itself: nothing will be done however often it is asked."""
        item = Item(request, Future())
        with self._lock:
            if self._stopped:
                raise Retry("engine_closed")
            if self._closed:
                raise SetupError(
                    "the engine broke, and its traceback is on stderr: where memory ran out, lower its options "
                    "max_batch and max_model_len; then start again"
                )
            self._items.put(item)
        return await asyncio.wrap_future(item.future)

    def take(self, *, block: bool) -> list[Item] | None:
        """Everything that has arrived, waiting for something if `block`; None once the engine is to stop."""
        taken: list[Item] = []
        while not self._stopped:
            try:
                item = self._items.get(block=block and not taken)
            except Empty:
                return taken
            if item is not None:
                taken.append(item)
        for item in taken:
            self._items.put(item)
        return None

    def stop(self) -> None:
        """Tell the engine to end, and take no more."""
        with self._lock:
            self._stopped = True
            self._items.put(None)

    def close(self) -> None:
        """The engine has ended: what still waits ends with `Retry`."""
        with self._lock:
            self._closed = True
        while not self._items.empty():
            item = self._items.get()
            if item is not None:
                item.fail(Retry("engine_closed"))


class EngineThread(Generic[R]):
    """Runs `load` and then the work that it returns in a thread of its own; closes the inbox however that ends."""

    def __init__(self, load: Callable[[], tuple[R, Callable[[], None]]], inbox: Inbox, *, name: str) -> None:
        """Blocks until loaded, and raises `load`'s `SetupError`; `loaded` is the first of what it returns."""
        ready: Future[R] = Future()

        def serve() -> None:
            try:
                loaded, work = load()
                ready.set_result(loaded)
                work()
            except SetupError as error:
                ready.set_exception(error)
            finally:  # anything else is a bug: the thread shows its traceback, and nobody waits for ever
                if not ready.done():
                    ready.set_exception(RuntimeError(f"{name} broke while loading: its traceback is on stderr"))
                inbox.close()

        sys.setswitchinterval(min(_SWITCH_S, sys.getswitchinterval()))
        # A daemon: a program that forgets to close an engine still ends.
        self._thread = threading.Thread(target=serve, name=name, daemon=True)
        self._thread.start()
        self.loaded = ready.result()

    async def join(self) -> None:
        """Wait for the thread's end."""
        await asyncio.to_thread(self._thread.join)
