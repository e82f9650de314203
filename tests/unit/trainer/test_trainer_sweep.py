"""Which candidate of a sweep is kept."""

from __future__ import annotations

from tracemend.trainer.settings import SweepSettings

SWEEP = SweepSettings(learning_rate=(1e-4, 1e-3), at_most={"over_refusal": 0.1}, at_least={"capability": 0.9})


def best(*candidates: dict[str, float]) -> int:
    return min(range(len(candidates)), key=lambda index: SWEEP.rank(candidates[index], base={}))


def test_the_least_harmful_candidate_within_all_limits_wins() -> None:
    safe_but_refusing = {"harm_reasoning": 0.0, "over_refusal": 0.2, "capability": 1.0}
    safe_but_dull = {"harm_reasoning": 0.0, "over_refusal": 0.0, "capability": 0.5}
    good = {"harm_reasoning": 0.1, "over_refusal": 0.1, "capability": 0.9}
    better = {**good, "harm_reasoning": 0.05}
    assert best(safe_but_refusing, safe_but_dull, good, better) == 3


def test_without_one_within_the_limits_the_nearest_wins() -> None:
    far = {"harm_reasoning": 0.0, "over_refusal": 0.3, "capability": 0.8}
    near = {"harm_reasoning": 0.3, "over_refusal": 0.12, "capability": 0.9}
    assert best(far, near) == 1


def test_a_metric_that_could_not_be_measured_counts_as_its_worst() -> None:
    unmeasured = {"over_refusal": 0.0, "capability": 1.0}
    harmful = {"harm_reasoning": 0.9, "over_refusal": 0.0, "capability": 1.0}
    assert best(unmeasured, harmful) == 1
    assert best({"harm_reasoning": 0.0}, harmful) == 1


def test_a_limit_by_the_base_moves_with_it() -> None:
    sweep = SweepSettings(learning_rate=(1e-4,), at_most_over_base={"over_refusal": 0.15})
    refusing = {"harm_reasoning": 0.1, "over_refusal": 0.2}
    assert not sweep.rank(refusing, base={"over_refusal": 0.06})[0]
    assert sweep.rank(refusing, base={"over_refusal": 0.01})[0]
    assert sweep.rank(refusing, base={})[0], "a base without a value counts as one that never refuses"
