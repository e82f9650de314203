"""From a decision to the request of a fork: what is kept, what is inserted, how long it may be, which is another."""

import dataclasses
from typing import Any

import pytest
from tests.builders import cue_at, forked, verdict, with_ids
from tests.unit.corrector.corrector_plans import arm, plan

from tracemend.corrector.actions import Continue
from tracemend.corrector.decide import Means, check_plan
from tracemend.corrector.requests import FORK, fork_request
from tracemend.corrector.triggers import pool
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import seed_of
from tracemend.records import GenerationRequest, Intervention, Sampling, Unit, Value

SAMPLING = Sampling(temperature=0.8, max_new_tokens=50)
ORIGINAL = verdict(Value.UNSAFE, with_ids(), cue=cue_at(3, 6))
TRIGGER, OTHER, *_ = pool("safety")
GO = Continue(
    unit=Unit(arm="ipo", prompt=ORIGINAL.trajectory.prompt.id, sample=0, variant=TRIGGER.id),
    verdict=ORIGINAL,
    strategy="intervene",
    trigger=TRIGGER,
    cut_token=6,
    round=1,
    attempt=1,
)


def request(*, sampling: Sampling = SAMPLING, revision: int = 0, **changes: Any) -> GenerationRequest:
    return fork_request(dataclasses.replace(GO, **changes), sampling=sampling, revision=revision)


def test_a_fork_keeps_the_ids_before_the_cut_and_names_the_trigger() -> None:
    old, fork = ORIGINAL.trajectory, request()
    assert fork.prefix_tokens == old.token_ids[:6]
    assert (fork.prompt, fork.model, fork.sample) == (old.prompt, old.model, old.sample)
    assert (fork.parent, fork.round, fork.seed) == (old.id, 1, seed_of(fork.id))
    assert fork.intervention == Intervention(
        kind=FORK, strategy="intervene", producer="pool:safety", payload=TRIGGER.text, cut_token=6, attempt=1,
        variant=TRIGGER.id,
    )  # fmt: skip


def test_what_is_kept_counts_towards_the_length_of_a_fork() -> None:
    assert request().sampling == dataclasses.replace(SAMPLING, max_new_tokens=44)
    assert request(sampling=Sampling(max_new_tokens=6)).sampling.max_new_tokens == 1


def test_the_same_decision_is_the_same_request_whatever_unit_it_serves() -> None:
    assert request() == request(unit=Unit(arm="other", prompt=GO.unit.prompt, variant=TRIGGER.id))


def test_every_cause_makes_another_request() -> None:
    fork = verdict(Value.UNSAFE, forked(ORIGINAL))
    others = [
        request(),
        request(cut_token=7),
        request(trigger=OTHER),
        request(attempt=2),
        request(verdict=fork),
        request(revision=1),
        request(sampling=Sampling(temperature=0.9, max_new_tokens=50)),
    ]
    assert len({one.id for one in others}) == len({one.seed for one in others}) == len(others)


@pytest.mark.parametrize(
    ("means", "message"),
    [
        (Means(models=[], engine="openai:m", takes_token_ids=False), "engine 'openai:m' does not take.*transformers"),
        (Means(models=[], has_detector=False), "judge.detector"),
    ],
)
def test_a_run_that_cannot_fork_is_refused_before_anything_is_spent(means: Means, message: str) -> None:
    with pytest.raises(SetupError, match=message) as raised:
        check_plan(plan(arm("intervene", teacher="")), means)
    assert "arm 'intervene'" in str(raised.value)


def test_a_run_with_token_ids_and_a_detector_may_fork() -> None:
    check_plan(plan(arm("intervene", teacher="")), Means(models=[]))
