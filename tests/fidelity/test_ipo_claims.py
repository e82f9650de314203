"""IPO's claims on one base seed with small sets; docs/fidelity-ipo.md has them over five seeds and larger ones.

What the world plants and what algebra says must be met here too; what comes of training must not be refuted.
"""

from __future__ import annotations

import dataclasses
import os
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.fidelity.claim import Claim, Nature
from benchmarks.fidelity.interventions import NEUTRAL, NUM_ROUNDS, TRIGGERS, Interventions, run_seed
from benchmarks.fidelity.ipo_claims import CLAIMS, harm_after

from tracemend.embedded.progress import Silent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

CRITERIA = [claim for claim in CLAIMS if claim.criterion and not claim.not_shown]
DECIDED = [claim for claim in CRITERIA if claim.nature is not Nature.EMERGENT]
OPEN = [claim for claim in CRITERIA if claim.nature is Nature.EMERGENT]
NUM_PROMPTS = 30
CURVE_PROMPTS = 120
"""With eight samples of each, some 600 traces are cut."""
LEARNING_RATE = 1.5e-4
"""Of every arm, for want of the time that a sweep takes."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Interventions:
    """Seed 0. TRACEMEND_CACHE shares the base model with other tests."""
    cache = os.environ.get("TRACEMEND_CACHE")
    return run_seed(
        0,
        tmp_path_factory.mktemp("interventions"),
        num_prompts=NUM_PROMPTS,
        learning_rate=LEARNING_RATE,
        curve_prompts=CURVE_PROMPTS,
        cache=Path(cache) if cache else tmp_path_factory.mktemp("cache"),
        observer=Silent(),
    )


@pytest.mark.parametrize("claim", DECIDED, ids=lambda claim: claim.key)
def test_what_is_planted_or_true_by_algebra_is_seen(claim: Claim[Interventions], found: Interventions) -> None:
    assert claim.holds([found]), (claim.says, claim.of(found))


@pytest.mark.parametrize("claim", OPEN, ids=lambda claim: claim.key)
def test_what_comes_of_training_is_not_refuted(claim: Claim[Interventions], found: Interventions) -> None:
    assert claim.criterion is not None
    assert not claim.criterion.is_refuted_by(claim.of(found)), (claim.says, claim.of(found))


@pytest.mark.parametrize("arm", [TRIGGERS, NEUTRAL])
def test_the_replacement_curve_falls_with_every_round(arm: str, found: Interventions) -> None:
    curve = [harm_after(found, arm, number).value for number in range(NUM_ROUNDS + 1)]
    assert curve[0] == 1.0
    assert all(later <= earlier for earlier, later in pairwise(curve))
    assert curve[NUM_ROUNDS] < curve[1] < curve[0]


def test_every_identity_can_fail(found: Interventions) -> None:
    ends = found.ends[TRIGGERS]
    one_lost = dataclasses.replace(ends, accepted_at=tuple(at for at in ends.accepted_at if at != 1))
    mutants = {
        "partial-is-whole": dataclasses.replace(found, num_differing=found.num_compared),
        "yield": dataclasses.replace(found, ends={**found.ends, TRIGGERS: one_lost}),
    }
    identities = [claim for claim in CLAIMS if claim.nature is Nature.IDENTITY]
    assert {claim.key for claim in identities} == mutants.keys()
    assert [claim.key for claim in identities if claim.holds([mutants[claim.key]])] == []
