"""Intervals and criteria of the fidelity table, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from benchmarks.fidelity.criteria import AtLeast, AtMost, Below, Criterion, NoWorse, Within
from benchmarks.fidelity.figures import Figure, averaged, mean_of, over_seeds, paired_difference, unpaired_difference


def figure(value: float, low: float, high: float) -> Figure:
    return Figure(value=value, low=low, high=high)


def test_the_interval_over_seeds_is_students() -> None:
    """Mean 2, standard deviation 1, t(0.975; 2) = 4.30265."""
    found = over_seeds([1, 2, 3])
    half = 4.30265 / math.sqrt(3)
    assert found.value == 2
    assert found.low == pytest.approx(2 - half, abs=1e-4)
    assert found.high == pytest.approx(2 + half, abs=1e-4)


def test_the_interval_over_seeds_narrows_with_less_confidence() -> None:
    """t(0.95; 2) = 2.91999."""
    assert over_seeds([1, 2, 3], confidence=0.9).high == pytest.approx(2 + 2.91999 / math.sqrt(3), abs=1e-4)


def test_means_are_over_the_named_splits_alone() -> None:
    scores = {("a", "1"): 1.0, ("a", "2"): 0.0, ("b", "1"): 1.0}
    assert mean_of(scores, ["a"]).value == 0.5
    assert mean_of(scores, None).value == pytest.approx(2 / 3)


def test_paired_differences_leave_out_what_one_side_lacks() -> None:
    ours, theirs = {("a", "1"): 1.0, ("a", "2"): 1.0}, {("a", "1"): 0.0, ("a", "3"): 1.0}
    assert paired_difference(ours, theirs, ["a"]).value == 1.0


def test_unpaired_differences_square_and_add() -> None:
    """Newcombe: 0.6 [0.5, 0.7] less 0.5 [0.4, 0.6] is 0.1 ± 0.1·√2."""
    found = unpaired_difference(figure(0.6, 0.5, 0.7), figure(0.5, 0.4, 0.6))
    assert found.low == pytest.approx(0.1 - 0.1 * math.sqrt(2))
    assert found.high == pytest.approx(0.1 + 0.1 * math.sqrt(2))


def test_arms_are_averaged_prompt_by_prompt() -> None:
    assert averaged({("a", "1"): 1.0, ("a", "2"): 1.0}, {("a", "1"): 0.0}) == {("a", "1"): 0.5}


@pytest.mark.parametrize(
    ("criterion", "met", "missed"),
    [
        (Below(0.1), figure(-0.12, -0.2, -0.04), figure(-0.12, -0.3, 0.01)),
        (Below(0.1), figure(-0.1, -0.2, -0.01), figure(-0.09, -0.1, -0.08)),
        (NoWorse(0.05), figure(0.03, 0.0, 0.04), figure(0.0, -0.06, 0.06)),
        (AtMost(0.15), figure(0.15, 0.1, 0.2), figure(0.16, 0.1, 0.2)),
        (Within(0.15), figure(-0.15, -0.2, 0.0), figure(-0.16, -0.2, 0.0)),
        (AtLeast(-0.1), figure(-0.1, -0.2, 0.0), figure(-0.11, -0.2, 0.0)),
    ],
)
def test_a_criterion_is_met_on_one_side_of_its_limit_only(criterion: Criterion, met: Figure, missed: Figure) -> None:
    assert criterion.holds(met)
    assert not criterion.holds(missed)


@pytest.mark.parametrize(
    ("criterion", "refuted"),
    [
        (Below(0.1), figure(0.0, -0.05, 0.05)),
        (NoWorse(0.05), figure(0.1, 0.06, 0.14)),
        (AtMost(0.15), figure(0.2, 0.16, 0.3)),
        (Within(0.15), figure(-0.2, -0.3, -0.16)),
        (Within(0.15), figure(0.2, 0.16, 0.3)),
        (AtLeast(-0.1), figure(-0.2, -0.3, -0.11)),
    ],
)
def test_a_criterion_is_refuted_where_the_whole_interval_misses_it(criterion: Criterion, refuted: Figure) -> None:
    assert criterion.is_refuted_by(refuted)
    assert not criterion.is_refuted_by(figure(refuted.value, -1.0, 1.0))
