"""Purging removes a prompt's text from every file of a run's folder and keeps the books; gc deletes only waste."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import zstandard
from tests.unit.embedded.small_runs import run_small

from tracemend.embedded.laws import check_laws
from tracemend.embedded.looking import open_run
from tracemend.embedded.phases import once
from tracemend.embedded.purging import Purged, purge
from tracemend.embedded.story import tell
from tracemend.embedded.upkeep import Collected, collect
from tracemend.embedded.workspace import Workspace, current_run, open_workspace
from tracemend.kit.errors import SetupError
from tracemend.trainer import dataset

T = TypeVar("T")


def at(folder: Path, work: Callable[[Workspace], Awaitable[T]]) -> T:
    async def body() -> T:
        async with open_workspace(folder) as workspace:
            return await work(workspace)

    return asyncio.run(body())


def published(folder: Path, arm: str) -> list[str]:
    return [example.prompt.id for example in dataset.read_examples(folder / "datasets" / arm)]


def contents(folder: Path) -> bytes:
    """Every byte under `folder`, frames decompressed."""
    found = b""
    for path in folder.rglob("*"):
        raw = path.read_bytes() if path.is_file() else b""
        frames = [raw[match.start() :] for match in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), raw)]
        found += raw + b"".join(_decompressed(frame) for frame in frames)
    return found


def _decompressed(frame: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    except zstandard.ZstdError:
        return b""


def verified(folder: Path) -> bool:
    return not broken_laws(folder)


def broken_laws(folder: Path) -> str:
    """What `verify` says of the laws that do not hold."""

    async def body() -> str:
        async with open_run(folder) as opened:
            findings = await check_laws(opened.workspace, run=opened.run, plan=opened.plan)
            return "\n".join(found.detail or found.law for found in findings if not found.holds)

    return asyncio.run(body())


def test_a_purged_prompt_is_nowhere_and_the_next_run_does_without_it(tmp_path: Path) -> None:
    run_small(tmp_path)
    victim = published(tmp_path, "rewrite")[0]

    async def words(folder: Path) -> str:
        async with open_run(folder) as opened:
            return (await tell(opened, victim)).prompt.text.reveal()

    text = asyncio.run(words(tmp_path)).encode()
    assert text in contents(tmp_path)
    found: Purged = at(tmp_path, lambda workspace: purge(workspace, victim))
    assert "rewrite" in found.datasets
    assert found.num_records > 0
    assert text not in contents(tmp_path)
    assert not verified(tmp_path)
    assert "the run's command builds it again" in broken_laws(tmp_path)

    run_small(tmp_path)
    assert verified(tmp_path)
    assert victim not in published(tmp_path, "rewrite")
    assert len(published(tmp_path, "rewrite")) > 0
    assert text not in contents(tmp_path)


def test_models_that_were_trained_on_a_purged_prompt_leave_the_store_and_others_stay(tmp_path: Path) -> None:
    run_small(tmp_path)
    victim = published(tmp_path, "rewrite")[0]

    async def kept(workspace: Workspace) -> dict[str, str]:
        run, parts = current_run(tmp_path), {}
        for name in ("carried:rewrite", "carried:other", "underway:training-1"):
            parts[name] = await workspace.store.put(name.encode())
            parts["shared"] = await workspace.store.put(b"a tokenizer")
            listed = {"files": [{"parts": [parts[name], parts["shared"]]}]}
            await once(workspace, run, name, [], partial(asyncio.sleep, 0, listed))
        return parts

    parts = at(tmp_path, kept)
    at(tmp_path, lambda workspace: purge(workspace, victim))

    async def left(workspace: Workspace) -> set[str]:
        return {name for name, part in parts.items() if await workspace.store.has(part)}

    assert at(tmp_path, left) == {"carried:other", "shared"}


class _Killed(Exception):
    """Stands for the end of the process."""


@dataclasses.dataclass
class _Mortal:
    """A store whose process is killed at its delete number `dies_at`, before or after it is done."""

    store: Any
    dies_at: int
    is_done: bool
    num_deletes: int = 0

    async def delete(self, digest: str) -> None:
        self.num_deletes += 1
        dies = self.num_deletes == self.dies_at
        if not dies or self.is_done:
            await self.store.delete(digest)
        if dies:
            raise _Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def test_purging_again_after_a_kill_leaves_no_word_either(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run_small(whole)
    victim = published(whole, "rewrite")[0]
    text = next(e for e in dataset.read_examples(whole / "datasets" / "rewrite") if e.prompt.id == victim).prompt.text
    words = text.reveal().encode()

    async def killed(workspace: Workspace, dies_at: int, is_done: bool) -> bool:
        mortal = _Mortal(workspace.store, dies_at, is_done)
        with suppress(_Killed):
            await purge(dataclasses.replace(workspace, store=mortal), victim)
            return False
        return True

    for dies_at, is_done in ((number, done) for number in range(1, 30) for done in (False, True)):
        folder = shutil.copytree(whole, tmp_path / f"{dies_at}-{is_done}")
        if not at(folder, partial(killed, dies_at=dies_at, is_done=is_done)):
            break
        with suppress(SetupError):  # nothing refers to it any more
            at(folder, partial(purge, prompt=victim))
        at(folder, partial(collect, grace_s=0))
        assert words not in contents(folder), (dies_at, is_done)
    assert 3 < dies_at < 29


def test_purging_what_is_not_there_is_refused(tmp_path: Path) -> None:
    run_small(tmp_path)
    with pytest.raises(SetupError, match="belongs to 'prompt_none'"):
        at(tmp_path, lambda workspace: purge(workspace, "prompt_none"))


def test_gc_deletes_waste_after_the_grace_time_and_nothing_else(tmp_path: Path) -> None:
    run_small(tmp_path)
    waste = at(tmp_path, lambda workspace: workspace.store.put(b"left by a killed process"))

    def collected(now_s: float) -> Collected:
        return at(tmp_path, lambda workspace: collect(workspace, grace_s=3600, clock=lambda: now_s))

    first = collected(1_000.0)
    assert (first.num_deleted, first.num_waiting) == (0, 1)
    assert collected(4_000.0).num_deleted == 0
    last = collected(4_600.0)
    assert (last.num_deleted, last.num_waiting, last.num_kept) == (1, 0, first.num_kept)
    assert not at(tmp_path, lambda workspace: workspace.store.has(waste))
    assert verified(tmp_path)
    run_small(tmp_path)
    assert verified(tmp_path)


def test_upkeep_waits_for_no_working_process_but_refuses(tmp_path: Path) -> None:
    run_small(tmp_path)

    async def body() -> None:
        async with open_workspace(tmp_path):
            with pytest.raises(SetupError, match="another tracemend process"):
                async with open_workspace(tmp_path):
                    pass

    asyncio.run(body())
