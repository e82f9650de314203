"""The arbiter of a shared pool: runs take the GPUs, generators get them back as they were."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tracemend.trainer.operator.pool import HELD, PAUSED, PAUSED_AT, is_at_work, patch_of
from tracemend.trainer.operator.standing import Phase


def merged(member: dict[str, Any], patch: dict[str, Any] | None) -> dict[str, Any]:
    """JSON merge patch (RFC 7396), two levels deep, through JSON as it travels."""
    after = copy.deepcopy(member)
    for part, changes in json.loads(json.dumps(patch or {})).items():
        for key, value in changes.items():
            if isinstance(value, dict):
                kept = {**after[part].get(key, {}), **value}
                after[part][key] = {name: each for name, each in kept.items() if each is not None}
            else:
                after[part][key] = value
    return after


def settled(member: dict[str, Any], *, is_wanted: bool) -> dict[str, Any]:
    once = merged(member, patch_of(member, is_wanted=is_wanted))
    assert patch_of(once, is_wanted=is_wanted) is None, "a second look changes nothing"
    return once


NAMES = [HELD, PAUSED, PAUSED_AT, "own"]
REPLICAS = st.integers(0, 8)
DEPLOYMENTS = st.builds(
    lambda replicas: {"kind": "Deployment", "metadata": {"annotations": {"own": "1"}}, "spec": {"replicas": replicas}},
    REPLICAS,
)
SCALED = st.builds(
    lambda marks: {"kind": "ScaledObject", "metadata": {"annotations": dict.fromkeys(marks, "1")}, "spec": {}},
    st.sets(st.sampled_from(["own", PAUSED, PAUSED_AT])),
)


@given(DEPLOYMENTS | SCALED)
def test_what_a_run_has_taken_is_given_back_as_it_was(member: dict[str, Any]) -> None:
    taken = settled(member, is_wanted=True)
    assert taken["spec"].get("replicas", 0) == 0
    assert taken["metadata"]["annotations"].keys() & {PAUSED, PAUSED_AT} or member["kind"] == "Deployment"
    assert settled(taken, is_wanted=False) == member


@given(DEPLOYMENTS, st.integers(1, 8))
def test_a_deployment_that_is_scaled_up_while_a_run_works_is_held_with_its_newest_number(
    member: dict[str, Any], wanted: int
) -> None:
    again = merged(settled(member, is_wanted=True), {"spec": {"replicas": wanted}})
    assert settled(settled(again, is_wanted=True), is_wanted=False)["spec"]["replicas"] == wanted


def test_what_somebody_else_has_paused_stays_paused() -> None:
    paused = {"kind": "ScaledObject", "metadata": {"annotations": {PAUSED: "true"}}, "spec": {}}
    assert patch_of(paused, is_wanted=True) is None
    assert patch_of(paused, is_wanted=False) is None


def test_runs_want_the_gpus_from_their_first_attempt_to_their_end() -> None:
    wanting = {phase for phase in Phase if is_at_work([{"status": {"phase": str(phase)}}, {}])}
    assert wanting == {Phase.RUNNING, Phase.RESTARTING}
