"""The thread that owns an engine: whatever happens to it, nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tracemend.adapters.engine_thread import EngineThread, Inbox
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import ModelRequest


def test_a_setup_error_while_loading_reaches_the_opener() -> None:
    def load() -> tuple[int, Callable[[], None]]:
        raise SetupError("give another folder")

    with pytest.raises(SetupError, match="another folder"):
        EngineThread(load, Inbox(), name="engine")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_while_loading_reaches_the_opener_too() -> None:
    def load() -> tuple[int, Callable[[], None]]:
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="engine broke while loading"):
        EngineThread(load, Inbox(), name="engine")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_breaks_at_work_ends_waiting_requests_with_retry_and_takes_no_more() -> None:
    inbox = Inbox()

    def load() -> tuple[int, Callable[[], None]]:
        def work() -> None:
            taken = inbox.take(block=True)
            for item in taken or ():
                item.fail(Retry("broken"))
            raise ZeroDivisionError

        return 7, work

    thread = EngineThread(load, inbox, name="engine")
    assert thread.loaded == 7
    first = asyncio.create_task(inbox.complete(ModelRequest()))
    with pytest.raises(Retry, match="broken"):
        await first
    await thread.join()
    with pytest.raises(SetupError, match="the engine broke"):  # a Retry would be tried again for ever
        await inbox.complete(ModelRequest())
    inbox.stop()
    with pytest.raises(Retry, match="engine_closed"):
        await inbox.complete(ModelRequest())


async def test_what_arrives_before_the_stop_is_given_back_by_close() -> None:
    inbox = Inbox()
    waiting = [asyncio.create_task(inbox.complete(ModelRequest())) for _ in range(3)]
    await asyncio.sleep(0)
    inbox.stop()
    assert inbox.take(block=True) is None
    inbox.close()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(e) for e in ended] == [Retry] * 3
