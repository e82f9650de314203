"""Intervals: known values, coverage by simulation, properties of paired differences."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.evaluator.settings import StatisticsSettings
from tracemend.evaluator.stats import (
    Interval,
    adjusted_rate,
    detectable_difference,
    difference_interval,
    mean_interval,
    reduction_interval,
    wilson,
)

FAST = StatisticsSettings(resamples=300)
SCORES = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 1.0]), min_size=1, max_size=30)
PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=30)


def test_the_bootstraps_of_a_large_set_are_held_in_slices() -> None:
    ours, theirs = ([float(index % modulus == 0) for index in range(30_000)] for modulus in (7, 3))
    tracemalloc.start()
    try:
        assert reduction_interval(ours, theirs, FAST) is not None
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------------- wilson


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (15, 50, 0.1910, 0.4375),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 100, 0.0018, 0.0545),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_gives_the_values_of_the_literature(hits: int, trials: int, low: float, high: float) -> None:
    assert wilson(hits, trials, confidence=0.95) == pytest.approx((low, high), abs=5e-5)


def test_yes_or_no_scores_get_the_wilson_interval() -> None:
    found = mean_interval([1.0] * 15 + [0.0] * 35, FAST)
    assert found is not None
    assert found.value == 0.3
    assert (found.low, found.high) == pytest.approx((0.1910, 0.4375), abs=5e-5)


def test_no_scores_have_no_interval() -> None:
    assert mean_interval([], FAST) is None
    assert difference_interval([], [], FAST) is None
    assert detectable_difference([], confidence=0.95) is None


@given(SCORES)
def test_an_interval_holds_its_mean_and_stays_inside_the_scale(scores: list[float]) -> None:
    found = mean_interval(scores, FAST)
    assert found is not None
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert found.high > found.low, "prompts that all agree are no proof"


def test_alike_shares_still_leave_room_for_prompts_not_seen() -> None:
    found = mean_interval([0.4] * 10, FAST)
    assert found is not None
    assert found.low < 0.35
    assert found.high > 0.45


def test_more_prompts_narrow_the_interval() -> None:
    few, many = mean_interval([0.2, 0.8] * 10, FAST), mean_interval([0.2, 0.8] * 200, FAST)
    assert few is not None
    assert many is not None
    assert many.high - many.low < 0.4 * (few.high - few.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = [0.2, 0.4, 0.8, 1.0]
    assert mean_interval(scores, FAST) == mean_interval(scores, FAST)
    assert mean_interval(scores, FAST) != mean_interval(scores, FAST.model_copy(update={"seed": 1}))


# --------------------------------------------------------------------------------- paired differences


@given(PAIRS)
def test_swapping_the_arms_turns_the_difference_round(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    forth, back = difference_interval(ours, theirs, FAST), difference_interval(theirs, ours, FAST)
    assert forth is not None
    assert back is not None
    assert forth.value == pytest.approx(-back.value)
    assert -1.0 <= forth.low <= forth.value <= forth.high <= 1.0
    if not any(a - b for a, b in pairs):
        assert (forth.low, forth.high) == (-back.high, -back.low)


@given(SCORES)
def test_an_arm_does_not_differ_from_itself(scores: list[float]) -> None:
    found = difference_interval(scores, scores, FAST)
    assert found is not None
    assert found.value == 0.0
    assert found.low < 0.0 < found.high


def test_without_a_prompt_that_differs_the_interval_is_the_rule_of_three() -> None:
    found = difference_interval([1.0] * 60, [1.0] * 60, FAST)
    assert found is not None
    assert found.high == pytest.approx(-math.log(0.05) / 60)
    assert found.high == pytest.approx(3 / 60, rel=0.01)
    assert found.low == -found.high


def test_pairing_counts_prompts_and_not_totals() -> None:
    """Both arms score one half; only pairing tells that every prompt changed."""
    alike = difference_interval([1.0, 0.0] * 30, [1.0, 0.0] * 30, FAST)
    changed = difference_interval([1.0, 0.0] * 30, [0.0, 1.0] * 30, FAST)
    assert alike is not None
    assert changed is not None
    assert alike.value == changed.value == 0.0
    assert changed.high > 3 * alike.high


def test_prompts_that_are_not_paired_are_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="paired"):
        difference_interval([1.0], [1.0, 0.0], FAST)


# ----------------------------------------------------------------------------------------- coverage


Draw = Callable[[random.Random], float]


def _coverage(interval: Callable[[list[float]], Interval | None], draw: Draw, truth: float, *, n: int) -> float:
    """Share of 300 seeded experiments with `n` prompts whose interval holds the truth."""
    chance = random.Random(0)
    found = [interval([draw(chance) for _ in range(n)]) for _ in range(300)]
    return sum(i is not None and i.low - 1e-9 <= truth <= i.high + 1e-9 for i in found) / len(found)


def _mean(scores: list[float]) -> Interval | None:
    return mean_interval(scores, FAST)


def _difference(differences: list[float]) -> Interval | None:
    return difference_interval([max(0.0, d) for d in differences], [max(0.0, -d) for d in differences], FAST)


def _plain_bootstrap(differences: list[float]) -> Interval:
    """The mutant: draws from nothing but what was seen."""
    chance = random.Random(1)
    means = sorted(sum(chance.choices(differences, k=len(differences))) / len(differences) for _ in range(200))
    return Interval(value=sum(differences) / len(differences), low=means[5], high=means[194])


def _five_samples(rate: float, spread: float) -> Draw:
    """A prompt's share of five samples; prompts differ in their own rates."""

    def draw(chance: random.Random) -> float:
        own = chance.betavariate(rate * spread, (1 - rate) * spread)
        return sum(chance.random() < own for _ in range(5)) / 5

    return draw


def _change(lost: float, won: float) -> Draw:
    return lambda chance: chance.choices([1.0, -1.0, 0.0], weights=[lost, won, 1 - lost - won])[0]


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize(("rate", "spread"), [(0.05, 4.0), (0.1, 1.0), (0.5, 2.0), (0.97, 50.0)])
def test_intervals_of_shares_cover_the_truth(rate: float, spread: float, n: int) -> None:
    assert _coverage(_mean, _five_samples(rate, spread), rate, n=n) >= 0.92


@pytest.mark.parametrize("rate", [0.03, 0.2, 0.5])
def test_intervals_of_yes_or_no_scores_cover_the_truth(rate: float) -> None:
    assert 0.91 <= _coverage(_mean, lambda chance: float(chance.random() < rate), rate, n=60) <= 0.995


@pytest.mark.parametrize("n", [15, 60])
@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.02), (0.1, 0.05), (0.5, 0.03), (0.8, 0.02), (0.97, 0.0)])
def test_intervals_of_differences_cover_the_truth(lost: float, won: float, n: int) -> None:
    assert _coverage(_difference, _change(lost, won), lost - won, n=n) >= 0.9


def test_a_plain_bootstrap_would_not_cover_it() -> None:
    assert _coverage(_plain_bootstrap, _change(0.97, 0.0), 0.97, n=15) < 0.6


def test_intervals_are_not_bought_by_width() -> None:
    assert _coverage(_difference, _change(0.4, 0.2), 0.2, n=120) <= 0.985


# ------------------------------------------------------------------------------ power and correction


def test_the_detectable_difference_is_found_with_power_four_fifths() -> None:
    chance = random.Random(0)
    differences = [chance.choices([1.0, -1.0, 0.0], weights=[0.2, 0.1, 0.7])[0] for _ in range(200)]
    detectable = detectable_difference(differences, confidence=0.95)
    assert detectable is not None
    # An effect of that size, drawn with the same spread: (0.3 ± effect) / 2 of the prompts change each way.
    draw = _change((0.3 + detectable) / 2, (0.3 - detectable) / 2)
    found = [_difference([draw(chance) for _ in range(200)]) for _ in range(200)]
    power = sum(i is not None and i.low > 0 for i in found) / len(found)
    assert 0.7 <= power <= 0.9


def test_prompts_that_all_agree_do_not_promise_that_anything_would_be_found() -> None:
    detectable = detectable_difference([0.0] * 60, confidence=0.95)
    assert detectable is not None
    assert detectable > 3 / 62


def test_a_known_judge_error_is_taken_out() -> None:
    """90 % sensitivity and 80 % specificity show a true rate of 30 % as 0.3 × 0.9 + 0.7 × 0.2 = 0.41."""
    assert adjusted_rate(0.41, sensitivity=0.9, specificity=0.8) == pytest.approx(0.3)
    assert adjusted_rate(0.1, sensitivity=0.9, specificity=0.8) == 0.0
    assert adjusted_rate(0.5, sensitivity=0.5, specificity=0.5) is None
