"""The claims on one base seed with small sets: base model, the demo's arms, and arms of all and of few corrections.

docs/fidelity.md has the same claims over five seeds and larger sets. Clear differences and levels must be met here too;
what wants more prompts than these must not be refuted by them.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from benchmarks.fidelity.claim import Claim, Nature
from benchmarks.fidelity.claims import COMPARISON
from benchmarks.fidelity.criteria import AtMost, Below
from benchmarks.fidelity.runs import FULL, SMALL, SMALL_SELECTED, Evidence, comparison, run_seed

from tracemend.embedded.progress import Silent
from tracemend.redaction import Text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

CLAIMS = {claim.key: claim for claim in COMPARISON}
WANTS_MORE = {"harm-below-filter-at-worst"}
"""Differences that sets of this size do not decide: every missing verdict moves a bound by most of a point."""
DECIDED = [c for c in COMPARISON if isinstance(c.criterion, AtMost | Below) and c.key not in WANTS_MORE]
OPEN = [claim for claim in COMPARISON if claim.criterion and claim not in DECIDED and not claim.not_shown]
NUM_PROMPTS = 40


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Evidence:
    """Seed 0. TRACEMEND_CACHE shares the base model with other tests."""
    cache = os.environ.get("TRACEMEND_CACHE")
    return run_seed(
        comparison(seed=0, num_prompts=NUM_PROMPTS),
        tmp_path_factory.mktemp("fidelity"),
        cache=Path(cache) if cache else tmp_path_factory.mktemp("cache"),
        observer=Silent(),
    )


@pytest.mark.parametrize("claim", DECIDED, ids=lambda claim: claim.key)
def test_the_claim_is_met(claim: Claim[Evidence], evidence: Evidence) -> None:
    assert claim.holds([evidence]), (claim.says, claim.of(evidence))


@pytest.mark.parametrize("claim", OPEN, ids=lambda claim: claim.key)
def test_the_claim_is_not_refuted(claim: Claim[Evidence], evidence: Evidence) -> None:
    assert claim.criterion is not None
    assert not claim.criterion.is_refuted_by(claim.of(evidence)), (claim.says, claim.of(evidence))


def test_all_corrections_are_several_times_the_few(evidence: Evidence) -> None:
    assert len(evidence.rows[FULL]) >= 2 * len(evidence.rows[SMALL]) == 2 * len(evidence.rows[SMALL_SELECTED])
    assert set(evidence.matched) == set(evidence.rows) - {FULL, SMALL, SMALL_SELECTED}


def swapped(evidence: Evidence, **rows: str) -> Evidence:
    """The evidence with some arms' rows taken from other arms."""
    return dataclasses.replace(
        evidence, rows={**evidence.rows, **{arm: evidence.rows[other] for arm, other in rows.items()}}
    )


def test_every_identity_can_fail(evidence: Evidence) -> None:
    """A fault planted in the rows is seen by the identity that forbids it."""
    rows = evidence.rows
    shorter = dataclasses.replace(evidence, rows={**rows, "star1": rows["star1"][1:]})
    other_words = [dataclasses.replace(row, answer=Text("other words .")) for row in rows["star1"]]
    faults = {
        "filter-keeps-own-safe-samples": swapped(evidence, safechain="unsafechain"),
        "hard-prompts-are-hard": swapped(evidence, unsafechain="safechain"),
        "equal-rows": shorter,
        "equal-benign-rows": dataclasses.replace(evidence, rows={**rows, "star1": other_words}),
    }
    assert {key for key, claim in CLAIMS.items() if claim.nature is Nature.IDENTITY} == faults.keys()
    assert [key for key, faulty in faults.items() if CLAIMS[key].holds([faulty])] == []
