"""The conservation laws hold on a finished run, and each of them breaks under the fault that it is there for."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import run_small

from tracemend.embedded.laws import Finding, check_laws
from tracemend.embedded.looking import open_run
from tracemend.records import Value

ROWS, UNITS, STORED, VERIFIED = 0, 1, 2, 3
DATASETS = "published rows"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laws") / "run"
    run_small(folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def laws(folder: Path) -> list[Finding]:
    async def body() -> list[Finding]:
        async with open_run(folder) as opened:
            return await check_laws(opened.workspace, run=opened.run, plan=opened.plan)

    return asyncio.run(body())


def broken(folder: Path) -> list[int]:
    return [number for number, finding in enumerate(laws(folder)) if not finding.holds]


def execute(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "state" / "ledger.db")) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement


def test_every_law_holds_on_a_finished_run_and_was_checked_on_something(finished: Path) -> None:
    findings = laws(finished)
    assert all(finding.holds for finding in findings), findings
    assert all(finding.checked > 0 for finding in findings)
    assert [finding.law.startswith(DATASETS) for finding in findings[4:]] == [True, True]


_FIRST_OUTCOME = "(arm, row, sample) = (SELECT arm, row, sample FROM outcomes LIMIT 1)"
FAULTS: dict[str, tuple[Callable[[Path], None], int]] = {
    "an admitted prompt is gone": (lambda f: execute(f, "DELETE FROM prompts WHERE row = 7"), ROWS),
    "a row is counted twice": (lambda f: execute(f, "UPDATE runs SET num_admitted = num_admitted + 1"), ROWS),
    "an outcome is gone": (lambda f: execute(f, f"DELETE FROM outcomes WHERE {_FIRST_OUTCOME}"), UNITS),
    "an outcome belongs to nothing that was planned": (
        lambda f: execute(
            f,
            "UPDATE units SET sample = 99 WHERE arm = 'filter' AND row = 1 AND sample = 0",
            "UPDATE outcomes SET sample = 99 WHERE arm = 'filter' AND row = 1 AND sample = 0",
        ),
        UNITS,
    ),
    "the ledger says another state than the record": (
        lambda f: execute(f, "UPDATE outcomes SET state = 'kept' WHERE state = 'not_selected'"),
        STORED,
    ),
    "an outcome points at another record": (
        lambda f: execute(
            f,
            "UPDATE outcomes SET (pack, pack_offset, pack_length, digest) = "
            "(SELECT pack, pack_offset, pack_length, digest FROM outcomes WHERE state = 'kept' LIMIT 1) "
            "WHERE state = 'corrected'",
        ),
        STORED,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_ledger_breaks_its_law(folder: Path, fault: str) -> None:
    inflict, law = FAULTS[fault]
    inflict(folder)
    assert law in broken(folder)


def test_a_changed_byte_in_any_pack_of_outcomes_is_found(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "state" / "ledger.db")) as connection:
        pack, offset = connection.execute("SELECT pack, pack_offset FROM outcomes WHERE state = 'kept'").fetchone()
    path = folder / "state" / "blobs" / pack[:2] / pack
    content = bytearray(path.read_bytes())
    content[offset + 10] ^= 1
    path.write_bytes(content)
    assert STORED in broken(folder)


def test_a_kept_row_whose_judgement_is_not_safe_breaks_the_law_of_verified_rows(folder: Path) -> None:
    async def forge() -> None:
        async with open_run(folder) as opened:
            (kept, *_) = [u async for u in opened.workspace.ledger.outcomes(opened.run) if u.state == "corrected"]
            ((topic, outcome),) = await opened.workspace.results.read(kept.address)
            doubtful = dataclasses.replace(outcome.final.answer, value=Value.UNKNOWN)
            forged = dataclasses.replace(outcome, final=dataclasses.replace(outcome.final, answer=doubtful))
            at = (await opened.workspace.results.write({"forged": ((topic, forged),)}))["forged"]
            execute(
                folder,
                f"UPDATE outcomes SET pack = '{at.pack}', pack_offset = {at.offset}, pack_length = {at.length}, "
                f"digest = '{at.digest}' WHERE digest = '{kept.address.digest}'",
            )

    asyncio.run(forge())
    assert broken(folder) == [VERIFIED]


@pytest.mark.parametrize("arm", ["filter", "rewrite"])
def test_a_shard_that_is_gone_breaks_the_law_of_published_rows(folder: Path, arm: str) -> None:
    (shard,) = (folder / "datasets" / arm / "data").glob("*.parquet")
    shard.unlink()
    found = [finding for finding in laws(folder) if not finding.holds]
    assert [finding.law for finding in found] == [
        f"published rows of {arm} = manifest rows, each from a kept or corrected unit"
    ]


def test_a_dataset_of_another_arm_is_not_the_published_one(folder: Path) -> None:
    shutil.rmtree(folder / "datasets" / "filter")
    shutil.copytree(folder / "datasets" / "rewrite", folder / "datasets" / "filter")
    assert [f.detail for f in laws(folder) if not f.holds] == ["the folder holds another dataset"]


def test_a_damaged_prompt_is_a_broken_law(folder: Path) -> None:
    """Not an error of the checker: what it is asked is whether the folder is sound."""
    with closing(sqlite3.connect(folder / "state" / "ledger.db")) as connection:
        ((pack,),) = connection.execute("SELECT pack FROM prompts LIMIT 1")
    (blob,) = (path for path in (folder / "state" / "blobs").rglob("*") if pack in path.as_posix().replace("/", ""))
    blob.chmod(0o644)
    blob.write_bytes(b"X" * blob.stat().st_size)
    assert [finding.law for finding in laws(folder) if not finding.holds] == [
        "prompts and results of phases are stored unchanged"
    ]
