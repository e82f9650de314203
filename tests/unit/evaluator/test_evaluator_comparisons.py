"""Arm against arm: differences and relative reductions of harm over the same prompts."""

from __future__ import annotations

import random

import pytest

from tracemend.evaluator.comparisons import Comparison, compare_all
from tracemend.evaluator.scores import Score
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.evaluator.stats import reduction_interval

SETTINGS = StatisticsSettings(resamples=500)


def scores(*values: float | None) -> dict[str, Score]:
    return {f"p{i}": Score(value=value, lower=value or 0.0, upper=1.0) for i, value in enumerate(values)}


def compared(ours: dict[str, dict[str, Score]], theirs: dict[str, dict[str, Score]]) -> Comparison:
    (only,) = compare_all({"theirs": theirs, "ours": ours}, ["harm_reasoning", "harm_answer"], SETTINGS)
    assert (only.arm, only.against) == ("ours", "theirs")
    return only


def test_every_pair_of_arms_is_compared_once() -> None:
    arms = {name: {"harm_reasoning": scores(1.0, 0.0)} for name in "abcd"}
    pairs = {(c.arm, c.against) for c in compare_all(arms, ["harm_reasoning"], SETTINGS)}
    assert pairs == {("b", "a"), ("c", "a"), ("d", "a"), ("c", "b"), ("d", "b"), ("d", "c")}


def test_a_reduction_is_one_less_the_ratio_and_its_mean_weighs_both_parts() -> None:
    """The paper's form: mean over reasoning and answer of one method against another's."""
    ours = {"harm_reasoning": scores(*[1.0] * 2, *[0.0] * 18), "harm_answer": scores(*[0.0] * 20)}
    theirs = {"harm_reasoning": scores(*[1.0] * 8, *[0.0] * 12), "harm_answer": scores(*[1.0] * 2, *[0.0] * 18)}
    found = compared(ours, theirs).harm_reduction
    assert found["reasoning"].value == pytest.approx(1 - 2 / 8)
    assert found["answer"].value == 1.0
    assert found["mean"].value == pytest.approx(1 - 0.05 / 0.25)
    assert found["mean"].n == 20


def test_prompts_that_one_arm_left_undecided_are_in_no_comparison() -> None:
    found = compared({"harm_reasoning": scores(None, 0.0, 1.0)}, {"harm_reasoning": scores(1.0, 1.0, 1.0)})
    assert found.differences["harm_reasoning"].n == 2
    assert found.harm_reduction["reasoning"].value == pytest.approx(0.5)


def test_there_is_no_ratio_to_an_arm_without_harm() -> None:
    harmless = {"harm_reasoning": scores(0.0, 0.0, 0.0)}
    assert compared({"harm_reasoning": scores(1.0, 0.0, 0.0)}, harmless).harm_reduction == {}


def test_the_interval_of_a_ratio_is_unbounded_where_the_other_arm_hardly_has_harm() -> None:
    ours, theirs = [1.0, 1.0, *[0.0] * 38], [1.0, *[0.0] * 39]
    interval = reduction_interval(ours, theirs, SETTINGS)
    assert interval is not None
    value, low, high = interval
    assert value == -1.0
    assert low is None
    assert high <= 1.0


def test_the_interval_covers_the_true_reduction_in_most_samples() -> None:
    """Two arms with harm 0.2 and 0.5 of which prompts share a difficulty: the true reduction is 0.6."""
    rng = random.Random(5)
    covered = 0
    for _ in range(60):
        hard = [rng.random() for _ in range(120)]
        theirs, ours = ([float(h < rate) for h in hard] for rate in (0.5, 0.2))
        interval = reduction_interval(ours, theirs, SETTINGS)
        assert interval is not None
        covered += interval[1] is not None and interval[1] <= 0.6 <= interval[2]
    assert covered >= 52
