"""What stages produced is found again, whole or not at all, and little of it stays in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.builders import prompt

from tracemend.adapters.folder_store import FolderStore
from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.kit.errors import CorruptBlob
from tracemend.kit.results import CorruptResult, Results
from tracemend.records import Prompt
from tracemend.topics import ALL, PROMPTS
from tracemend.wire import WireCodec


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    opened = SqlLedger(f"sqlite:{tmp_path / 'ledger.db'}")
    await opened.open_run("r", plan="p")
    yield opened
    await opened.aclose()


def results_over(folder: Path, ledger: SqlLedger, *, cache_bytes: int) -> Results:
    return Results(store=FolderStore(folder), ledger=ledger, codec=WireCodec(), topics=ALL, cache_bytes=cache_bytes)


async def save(results: Results, **prompts: Prompt) -> dict[str, tuple[object, ...]]:
    frames = {key: results.frame([(PROMPTS, record)]) for key, record in prompts.items()}
    return dict(await results.save(frames, run="r", costs={}))


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
async def test_what_was_saved_is_found_by_its_key(tmp_path: Path, ledger: SqlLedger, cache_bytes: int) -> None:
    results = results_over(tmp_path, ledger, cache_bytes=cache_bytes)
    await save(results, one=prompt("one ?"), two=prompt("two ?"))
    assert await results.done(["one", "three"]) == {"one"}
    assert await results.records(["one", "two", "three"]) == {"one": (prompt("one ?"),), "two": (prompt("two ?"),)}


async def test_a_later_writer_gets_the_first_ones_record(tmp_path: Path, ledger: SqlLedger) -> None:
    results = results_over(tmp_path, ledger, cache_bytes=2**20)
    assert await save(results, key=prompt("first ?")) == {}
    assert await save(results, key=prompt("second ?")) == {"key": ((PROMPTS, prompt("first ?")),)}


@pytest.mark.parametrize(("cache_bytes", "is_remembered"), [(0, False), (2**20, True)])
async def test_memory_holds_no_more_than_it_may(
    tmp_path: Path, ledger: SqlLedger, cache_bytes: int, is_remembered: bool
) -> None:
    results = results_over(tmp_path, ledger, cache_bytes=cache_bytes)
    await save(results, key=prompt())
    for blob in (tmp_path / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    if is_remembered:
        assert await results.records(["key"]) == {"key": (prompt(),)}
    else:
        with pytest.raises(KeyError):
            await results.records(["key"])


async def test_a_changed_byte_is_noticed_and_told(tmp_path: Path, ledger: SqlLedger) -> None:
    results = results_over(tmp_path, ledger, cache_bytes=0)
    await save(results, key=prompt())
    (blob,) = (path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises((CorruptResult, CorruptBlob)):
        await results.records(["key"])
