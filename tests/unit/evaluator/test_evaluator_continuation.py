"""Continuation safety ratios: counts, turning points, changes, sets and mined triggers."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tracemend.evaluator.continuation.curves import Counts, Curve, Point, bounds_of, change_at, places, step_at
from tracemend.evaluator.continuation.mining import TurningSentence, mine
from tracemend.evaluator.continuation.sets import correlation, summarise
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.evaluator.continuation.turning import turning_points
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.records import Span, Step, Value
from tracemend.redaction import Text

FAST = StatisticsSettings(resamples=200)
DEFAULTS = ContinuationSettings()


def counts(num_safe: int, num_unsafe: int = 0, num_unknown: int = 0) -> Counts:
    return Counts(num_safe=num_safe, num_unsafe=num_unsafe, num_unknown=num_unknown)


def curve(
    ratios: Sequence[float], bounds: Sequence[int] | None = None, value: Value = Value.UNSAFE, **fields: object
) -> Curve:
    """A curve with these ratios at every bound, of ten continuations each."""
    bounds = tuple(bounds or range(len(ratios)))
    points = [
        Point(token=token, reasoning=counts(round(10 * ratio), 10 - round(10 * ratio)))
        for token, ratio in zip(bounds, ratios, strict=True)
    ]
    names = {"trajectory": "t", "prompt": "p", **fields}
    return Curve(value=value, bounds=bounds, points=tuple(points), **names)  # type: ignore[arg-type]  # test's choice


def test_what_is_unknown_is_neither_safe_nor_proof_of_harm() -> None:
    mixed = counts(6, 2, 2)
    assert (mixed.ratio, mixed.highest) == (0.6, 0.8)
    low, high = mixed.interval(0.95)
    assert low == counts(6, 4).interval(0.95)[0]
    assert high == counts(8, 2).interval(0.95)[1]
    assert Counts.of([Value.SAFE, Value.UNKNOWN, Value.UNSAFE, Value.SAFE]) == counts(2, 1, 1)


def test_a_place_full_of_unknowns_settles_nothing() -> None:
    unknown = tuple(Point(token=token, reasoning=counts(0, 1, 9)) for token in range(20))
    for value in Value:
        turning = turning_points(
            Curve(trajectory="t", prompt="p", value=value, bounds=tuple(range(20)), points=unknown), DEFAULTS
        )
        assert (turning.safe, turning.unsafe) == (None, None)


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.8, 0.9, 1.0]), min_size=1, max_size=40),
    st.integers(0, 20),
    st.sampled_from(list(Value)),
)
def test_with_a_place_at_every_token_turning_points_are_the_formula(
    ratios: list[float], window: int, value: Value
) -> None:
    """Behind the end of the reasoning, S is the verdict on it."""
    own = {Value.SAFE: 1.0, Value.UNSAFE: 0.0, Value.UNKNOWN: 0.5}[value]
    whole = ratios + [own] * (window + 1)
    found = turning_points(curve(ratios, value=value), ContinuationSettings(window_tokens=window))
    starts = range(len(ratios))
    assert found.safe == next((i for i in starts if all(s >= 0.9 for s in whole[i : i + window + 1])), None)
    assert found.unsafe == next((i for i in starts if all(s <= 0.1 for s in whole[i : i + window + 1])), None)


def test_between_steps_a_ratio_must_hold_at_both_ends_of_the_window() -> None:
    """Step 2 ends at token 20, its window at 35: the next measured place beyond is 40."""
    bounds = (0, 20, 40, 60)
    assert turning_points(curve([0.5, 0.0, 0.5, 0.0], bounds), DEFAULTS).unsafe == 60
    assert turning_points(curve([0.5, 0.0, 0.1, 0.5], bounds), DEFAULTS).unsafe == 20
    assert turning_points(curve([0.5, 0.0, 0.1, 0.5], bounds), ContinuationSettings(window_tokens=25)).unsafe is None


def test_thresholds_must_leave_room_between_them() -> None:
    with pytest.raises(ValidationError, match="below"):
        ContinuationSettings(safe_at_least=0.3, unsafe_at_most=0.3)


def test_places_are_the_distinct_bounds_of_steps_or_every_token() -> None:
    """Steps whose tokens overlap begin at the token that they share."""
    spans = [Span(start=1, end=4), Span(start=3, end=7), Span(start=3, end=7), Span(start=7, end=9)]
    steps = [Step(ordinal=n, chars=Span(start=n, end=n + 1), tokens=s) for n, s in enumerate(spans, start=1)]
    bounds = bounds_of(steps, end=9)
    assert bounds == (1, 3, 3, 7, 9)
    assert places(bounds, every="step") == (1, 3, 7, 9)
    assert places(bounds, every="token") == tuple(range(1, 10))
    assert [step_at(bounds, token) for token in (0, 1, 2, 3, 5, 7, 8, 9, 12)] == [0, 0, 1, 1, 3, 3, 4, 4, 4]
    assert bounds_of([], end=2) == (2,) == places((2,), every="step")


def test_a_change_has_newcombes_interval() -> None:
    """The first example of Newcombe (1998), method 10: 56/70 against 48/80."""
    points = (Point(token=0, reasoning=counts(48, 32)), Point(token=5, reasoning=counts(56, 14)))
    found = change_at(
        Curve(trajectory="t", prompt="p", value=Value.SAFE, bounds=(0, 5), points=points), 1, confidence=0.95
    )
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert found.is_rise
    assert not found.is_drop


def test_a_step_that_is_not_there_changes_nothing() -> None:
    of = curve([0.9, 0.1], (3, 9))
    assert [change_at(of, step, confidence=0.95) for step in (-1, 0, 2)] == [None] * 3
    drop = change_at(of, 1, confidence=0.95)
    assert drop is not None
    assert drop.is_drop


def test_the_correlation_is_pearsons() -> None:
    draw = random.Random(0)
    points = [(f"p{n}", x := draw.random(), x + draw.random()) for n in range(30)]
    found = correlation(points, FAST)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.r == pytest.approx(float(np.corrcoef([p[1] for p in points], [p[2] for p in points])[0, 1]))
    assert found.low < found.r < found.high < 1


def test_traces_of_one_prompt_do_not_narrow_the_correlation() -> None:
    """Each of eight points ten times over, as traces of one prompt and as if they were independent."""
    draw = random.Random(1)
    points = [(x := draw.random(), x + draw.random()) for _ in range(8)]
    together = correlation([(f"p{n}", *point) for n, point in enumerate(points) for _ in range(10)], FAST)
    apart = correlation([(f"p{n}-{i}", *point) for n, point in enumerate(points) for i in range(10)], FAST)
    assert together is not None
    assert apart is not None
    assert together.low is not None
    assert apart.low is not None
    assert together.r == pytest.approx(apart.r)
    assert together.low < apart.low


@pytest.mark.parametrize("points", [[], [("p", 1.0, 2.0)], [("p", 1.0, 2.0), ("q", 2.0, 3.0)]])
def test_too_few_points_have_no_correlation(points: list[tuple[str, float, float]]) -> None:
    assert correlation(points, FAST) is None


def test_points_without_spread_have_no_correlation() -> None:
    assert correlation([(f"p{n}", 1.0, float(n)) for n in range(5)], FAST) is None


def test_a_set_is_summarised_by_the_verdicts_on_its_traces() -> None:
    bounds = (0, 20, 40, 60, 80)
    unsafe = [
        curve([0.5, 0.6, 0.1, 0.0, 0.0], bounds, trajectory="a", prompt="p", cue=2),
        curve([0.5, 0.4, 0.4, 0.5, 0.0], bounds, trajectory="b", prompt="p", cue=4),
        curve([0.5, 0.6, 0.5, 0.0, 0.1], bounds, trajectory="c", prompt="q", cue=2),
        curve([0.5, 0.5, 0.5, 0.5, 0.5], bounds, trajectory="d", prompt="r", cue=0),
    ]
    safe = curve([0.5, 0.5, 0.9, 1.0, 1.0], bounds, Value.SAFE, trajectory="e", prompt="r", cue=2, trigger=2)
    found = summarise([*unsafe, safe], DEFAULTS, FAST)
    assert dict(found.num_traces) == {"safe": 1, "unsafe": 4, "unknown": 0}
    assert (found.num_safe_turns, found.num_unsafe_turns, found.num_cues) == (1, 3, 3)
    assert found.correlation is not None
    assert (found.correlation.n, found.correlation.num_prompts) == (3, 2)
    # Cues at tokens 20, 60, 20 against turning points at 40, 80, 60.
    assert found.correlation.r == pytest.approx(float(np.corrcoef([20, 60, 20], [40, 80, 60])[0, 1]))
    assert found.num_near == 3
    assert found.at_cue is not None
    assert found.at_trigger is not None
    # By prompt: p drops by 0.5 and 0.5, q by 0.1.
    assert found.at_cue.change.value == pytest.approx(-0.3)
    assert (found.at_cue.n, found.at_trigger.n) == (3, 1)
    assert found.at_trigger.change.value == pytest.approx(0.4)


def test_a_set_without_cues_says_nothing_of_them() -> None:
    found = summarise([curve([0.5, 0.0], (0, 20))], DEFAULTS, FAST)
    assert (found.correlation, found.at_cue, found.at_trigger, found.num_cues) == (None, None, None, 0)
    assert summarise([], DEFAULTS, FAST).num_unsafe_turns == 0


def test_mined_triggers_that_turned_most_prompts_come_first() -> None:
    def said(text: str, prompt: str, rise: float = 0.5) -> TurningSentence:
        return TurningSentence(text=Text(text), prompt=prompt, rise=rise)

    mined = mine(
        [
            said("Only here .", "p", 0.9),
            said(" I  should stop .\n", "p", 0.2),
            said("i should stop .", "q", 0.4),
            said("Only here .", "p", 0.9),
            said("Only here .", "p", 0.9),
            said("  \n", "p"),
        ]
    )
    assert [(t.text.reveal(), t.num_prompts, t.num_traces) for t in mined] == [
        ("I should stop .", 2, 2),
        ("Only here .", 1, 3),
    ]
    assert mined[0].mean_rise == pytest.approx(0.3)
    assert len({t.id for t in mined}) == 2
    assert [t.text.reveal() for t in mine([said("Only here .", "p")], min_prompts=2)] == []
