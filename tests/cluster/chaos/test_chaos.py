"""Six services under everything that can break around them: the outcomes of one process, none lost, none doubled.

On servers of its own, behind toxiproxy. Feeders do not ask again for what stalls (`asking_again` is taken away
throughout), so that delivery alone has to lose nothing. Each of the last tests takes one protection away as well, and
shows that the oracle misses it: a check that cannot fail would prove nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.chaos.faults import DAMAGED_PLAN, KINDS
from tests.servers import own_servers

from tracemend.kit import crash_points

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[3]
NUM_PROMPTS = int(os.environ.get("TRACEMEND_CHAOS_PROMPTS", "20000"))
RATE = 80.0
"""Prompts a second: four minutes of faults at least, and processors left for who else runs here."""
NUM_FOR_MUTANTS = 1_500
FAULTS_FOR_MUTANTS = 8
"""Without end, faults that come as soon as anything moves let a run without its protection neither finish nor stall."""


@pytest.fixture(scope="module")
def environ() -> Iterator[Mapping[str, str]]:
    with own_servers("kafka", "minio", "postgres", "toxiproxy") as (_, environ):
        yield environ


def driven(
    folder: Path,
    environ: Mapping[str, str],
    *,
    prompts: int,
    faults: str,
    without: str = "",
    rounds: int = 0,
    stalled_s: float = 300.0,
    rate: float = 0.0,
) -> dict[str, Any]:
    gone = ",".join(filter(None, (crash_points.ASKING_AGAIN, without)))
    options = ["--prompts", str(prompts), "--faults", faults, "--without", gone, "--rounds", str(rounds)]
    options += ["--stalled-s", str(stalled_s), "--rate", str(rate)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.chaos.driver", str(folder), *options],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(report)
    return report


def test_a_run_under_every_fault_ends_as_in_one_process(tmp_path: Path, environ: Mapping[str, str]) -> None:
    report = driven(tmp_path, environ, prompts=NUM_PROMPTS, faults=",".join(KINDS), rounds=1, rate=RATE)
    assert report["broken"] == []
    assert report["is_done"]
    assert set(report["recovery_s"]) == set(KINDS), "every kind came, and the run moved again after it"


@pytest.mark.parametrize(
    ("protection", "faults"),
    [
        (crash_points.WORK_BEFORE_COMMIT, "kill_stages"),
        pytest.param(crash_points.DELIVERY_REPORTS, "refused_writes", marks=pytest.mark.long),
        pytest.param(crash_points.DIGEST_CHECK, DAMAGED_PLAN, marks=pytest.mark.long),
    ],
)
def test_the_oracle_misses_what_a_protection_prevents(
    protection: str, faults: str, tmp_path: Path, environ: Mapping[str, str]
) -> None:
    kept = driven(tmp_path / "with", environ, prompts=NUM_FOR_MUTANTS, faults=faults, rounds=FAULTS_FOR_MUTANTS)
    assert (kept["is_done"], kept["broken"]) == (True, [])
    lost: dict[str, Any] = {"without": protection, "stalled_s": 60.0, "rounds": FAULTS_FOR_MUTANTS}
    taken = driven(tmp_path / "without", environ, prompts=NUM_FOR_MUTANTS, faults=faults, **lost)
    assert taken["broken"], "the same faults, without the protection"


@pytest.mark.long
def test_the_oracle_finds_work_that_is_done_again(tmp_path: Path, environ: Mapping[str, str]) -> None:
    """The first writer keeps outcomes right even so; what is wasted tells."""
    kept = driven(tmp_path / "with", environ, prompts=NUM_FOR_MUTANTS, faults="rewind", rounds=2)
    assert (kept["is_done"], kept["broken"]) == (True, [])
    without = crash_points.DEDUPLICATION
    taken = driven(tmp_path / "without", environ, prompts=NUM_FOR_MUTANTS, faults="rewind", without=without, rounds=2)
    again = {"with": kept["num_judged_again"], "without": taken["num_judged_again"]}
    assert again["without"] > 3 * again["with"], again
