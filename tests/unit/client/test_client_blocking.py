"""The client without asyncio, its credentials, and what it says of refusals."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from tests.ingestion_server import ingestion, plan

from tracemend.client import CallError, Client, PromptRow
from tracemend.client.blocking import _iterate
from tracemend.client.connection import Connection, Credentials
from tracemend.kit.errors import SetupError
from tracemend.kit.run_states import RunState
from tracemend.records import Category
from tracemend.redaction import Text


async def test_every_method_works_without_an_event_loop(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:

        def use() -> None:
            with Client(served.address) as client:
                assert client.check(plan()).id == "demo-1"
                run = client.submit(plan(), [PromptRow(text=Text("one"), category=Category.BENIGN)])
                assert (run.id, run.status().state) == ("demo-1", RunState.SEALED)
                assert [status.id for status in client.runs()] == ["demo-1"]
                assert list(run.outcomes()) == []
                assert list(run.dead_letters()) == []
                assert next(iter(run.watch())).state is RunState.SEALED
                assert client.run("demo-1").cancel().state is RunState.CANCELLED
                assert [status.state for status in run.watch()] == [RunState.CANCELLED]
                assert run.wait().state is RunState.CANCELLED

        await asyncio.to_thread(use)


class Interrupted(BaseException):
    """As `KeyboardInterrupt`, and nobody else's."""


@pytest.mark.parametrize("farewell_s", [0.0, 0.2])
def test_an_interrupt_while_waiting_for_an_item_closes_the_source_and_is_told(farewell_s: float) -> None:
    ended: list[str] = []

    async def items() -> AsyncGenerator[int, None]:
        try:
            yield 1
            main = threading.main_thread().ident
            assert main is not None
            asyncio.get_running_loop().call_later(0.1, signal.pthread_kill, main, signal.SIGUSR1)
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(farewell_s)
            ended.append("closed")

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            list(_iterate(items()))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ended == ["closed"]


async def test_refusals_say_what_is_wrong(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:

        def use() -> CallError:
            with Client(served.address) as client, pytest.raises(CallError) as caught:
                client.begin(plan(target="large"))
            return caught.value

        refused = await asyncio.to_thread(use)
    assert refused.code == "FAILED_PRECONDITION"
    assert "target 'large' is not served here" in str(refused)
    assert not refused.is_transient


async def test_an_error_of_the_callers_iterable_is_the_callers(tmp_path: Path) -> None:
    def rows() -> object:
        yield {"text": "one", "category": "benign"}
        raise KeyError("column")

    async with ingestion(tmp_path) as served:

        def use() -> None:
            with Client(served.address) as client, pytest.raises(KeyError):
                client.submit(plan(), rows())  # type: ignore[arg-type]  # a generator, written shortly

        await asyncio.to_thread(use)


async def test_tokens_are_read_anew_and_go_with_every_call(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    connection = Connection(
        "127.0.0.1:1", stub=lambda channel: channel, credentials=Credentials(token_file=token), patience_s=0
    )
    assert connection.metadata() == (("authorization", "Bearer first"),)
    token.write_text("second")
    assert dict(connection.metadata(purpose="a ä"))["authorization"] == "Bearer second"
    assert dict(connection.metadata(purpose="a ä"))["x-tracemend-purpose"] == "a%20%C3%A4"
    token.unlink()
    with pytest.raises(SetupError, match="token"):
        connection.metadata()
    await connection.aclose()


async def test_a_distant_server_is_spoken_to_by_tls_alone(tmp_path: Path) -> None:
    """Without TLS nothing may leave this machine unless it is asked for."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(8))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def use(host: str) -> None:
        with Client(f"{host}:{port}", patience_s=0.3, timeout_s=5) as client, pytest.raises(CallError):
            client.begin(plan())

    await asyncio.to_thread(use, "127.0.0.1")
    plain, heard[:] = heard[0], []
    await asyncio.to_thread(use, "ipv4:127.0.0.1")
    server.close()
    assert plain.startswith(b"PRI * HT")
    assert heard
    assert all(not first.startswith(b"PRI") for first in heard)
