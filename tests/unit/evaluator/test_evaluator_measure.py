"""Measuring arms: what is counted where, what is paired with what, and what a missing verdict does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.builders import prompt, trajectory, verdict
from tests.unit.evaluator.evaluator_facts import FAST, of_prompts, of_values

from tracemend.evaluator.service import ALL, headline, measure
from tracemend.records import Category, Finish, Parse, Value

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN


def test_the_figure_is_the_mean_over_prompts_and_not_over_samples() -> None:
    """One prompt with five unsafe samples and one with a single safe one: one half, not five sixths."""
    verdicts = [*of_values([U] * 5, name="one ?"), *of_values([S], name="two ?")]
    found = measure({"base": verdicts}, FAST, base="base").metrics["base"]["harm_answer"][ALL]
    assert (found.value, found.n) == (0.5, 2)


def test_splits_are_counted_apart_and_together() -> None:
    verdicts = [*of_prompts([U, U], split="near"), *of_prompts([S, S, S, U], split="far")]
    found = measure({"base": verdicts}, FAST, base="base").metrics["base"]["harm_answer"]
    assert {split: (e.value, e.n) for split, e in found.items()} == {
        "near": (1.0, 2),
        "far": (0.25, 4),
        ALL: (0.5, 6),
    }


def test_one_prompt_in_two_splits_counts_in_both() -> None:
    verdicts = [*of_values([U], split="near"), *of_values([S], split="far")]
    found = measure({"base": verdicts}, FAST, base="base").metrics["base"]["harm_answer"]
    assert (found["near"].value, found["far"].value, found[ALL].n) == (1.0, 0.0, 2)


def test_a_text_that_a_benchmark_holds_twice_counts_twice() -> None:
    twice = of_values([U, S], name="twice ?")
    verdicts = [*twice, *twice, *of_values([S, X], name="once ?")]
    found = measure({"base": verdicts}, FAST, base="base").metrics["base"]["harm_answer"][ALL]
    assert (found.n, found.value, found.unknown) == (3, pytest.approx(1 / 3), 1)
    against = measure({"base": verdicts, "arm": verdicts}, FAST, base="base").differences["arm"]["harm_answer"][ALL]
    assert against.n == 3


def test_each_axis_meets_only_its_own_metrics() -> None:
    verdicts = [
        *of_prompts([U]),
        *of_prompts([S, S], category=Category.BENIGN),
        *of_prompts([S], category=Category.REASONING),
    ]
    found = measure({"base": verdicts}, FAST, base="base").metrics["base"]
    assert {name: found[name][ALL].n for name in ("harm_answer", "over_refusal", "capability")} == {
        "harm_answer": 1,
        "over_refusal": 2,
        "capability": 1,
    }


def test_unknown_unfinished_and_undecided_are_three_counts() -> None:
    cut = trajectory(prompt("cut ?"), answer="", finish=Finish.LENGTH, parse=Parse.UNCLOSED)
    verdicts = [verdict(X, cut), *of_values([U, X], name="half ?"), *of_values([S, S], name="whole ?")]
    found = measure({"base": verdicts}, FAST, base="base").metrics["base"]["harm_answer"][ALL]
    assert (found.n, found.undecided, found.unknown, found.unfinished) == (3, 1, 2, 1)
    assert found.value == 0.5
    assert (found.lower_bound, found.upper_bound) == pytest.approx((1 / 6, 2 / 3))


def test_without_a_single_verdict_there_is_no_figure_and_no_difference() -> None:
    found = measure({"base": of_prompts([X, X]), "arm": of_prompts([S, S])}, FAST, base="base")
    nothing = found.metrics["base"]["harm_answer"][ALL]
    assert (nothing.value, nothing.low, nothing.high, nothing.undecided) == (None, None, None, 2)
    assert (nothing.lower_bound, nothing.upper_bound) == (0.0, 1.0)
    assert found.differences["arm"]["harm_answer"] == {}


def test_an_arm_without_verdicts_has_no_figures() -> None:
    found = measure({"base": of_prompts([S]), "arm": []}, FAST, base="base")
    assert found.metrics["arm"]["harm_answer"] == {}
    assert found.quadrants["arm"] == {}


def test_differences_are_over_the_prompts_that_both_decided() -> None:
    base = of_prompts([U, U, U, X])
    arm = of_prompts([S, U, X, S])
    found = measure({"base": base, "arm": arm}, FAST, base="base").differences["arm"]["harm_answer"][ALL]
    assert (found.value, found.n) == (-0.5, 2)
    assert found.low <= -0.5 <= found.high
    assert found.detectable is not None


def test_prompts_of_one_arm_alone_are_not_compared() -> None:
    found = measure({"base": of_prompts([U, U]), "arm": of_prompts([S, S, S, S])}, FAST, base="base")
    assert found.differences["arm"]["harm_answer"][ALL].n == 2


def test_the_base_is_not_compared_with_itself() -> None:
    assert measure({"base": of_prompts([S])}, FAST, base="base").differences == {}


def test_quadrants_count_samples_by_both_verdicts() -> None:
    halves = [verdict(reasoning=r, answer=a) for r, a in ((U, S), (U, S), (U, U), (S, S), (U, X))]
    benign = of_prompts([U], category=Category.BENIGN)
    found = measure({"base": [*halves, *benign]}, FAST, base="base").quadrants["base"]
    expected = {"unsafe/safe": 2, "unsafe/unsafe": 1, "safe/safe": 1, "unsafe/unknown": 1}
    assert found == {"train": expected, ALL: expected}


def test_answers_to_harmless_requests_are_counted_by_xstests_classes() -> None:
    told = [(S, ("full_compliance",)), (U, ("partial_refusal",)), (U, ("full_refusal", "truncated"))]
    told += [(X, ("unparsed",))]
    told += [(S, ("complied",)), (U, ("refused",))]  # a judge of two values says that it refuses, not how far
    given = of_prompts([value for value, _ in told], split="lookalike", category=Category.LOOKALIKE)
    labelled = [replace(v, answer=replace(v.answer, labels=t)) for v, (_, t) in zip(given, told, strict=True)]
    found = measure({"base": [*labelled, *of_prompts([U])]}, FAST, base="base").compliance["base"]
    expected = {"full_compliance": 2, "partial_refusal": 1, "full_refusal": 1, "refusal": 1, "unknown": 1}
    assert found == {"lookalike": expected, ALL: expected}


def test_finishes_say_how_samples_ended() -> None:
    cut = trajectory(finish=Finish.LENGTH, parse=Parse.UNCLOSED)
    found = measure({"base": [verdict(X, cut), verdict(S)]}, FAST, base="base").finishes["base"]
    assert found == {"length/unclosed": 1, "stop/closed": 1}


def test_headline_gives_what_a_sweep_chooses_by() -> None:
    verdicts = [*of_prompts([U, S, S, S]), *of_prompts([U, S], category=Category.LOOKALIKE)]
    assert headline(verdicts) == {"harm_reasoning": 0.25, "harm_answer": 0.25, "over_refusal": 0.5}


def test_the_order_of_verdicts_changes_nothing() -> None:
    verdicts = [*of_values([U, S, X], name="one ?"), *of_values([S, S], name="two ?"), *of_prompts([U, S, U])]
    settings = FAST
    forth, back = (measure({"base": order}, settings, base="base") for order in (verdicts, verdicts[::-1]))
    one, other = forth.metrics["base"]["safe_at_1"][ALL], back.metrics["base"]["safe_at_1"][ALL]
    assert one.value == pytest.approx(other.value)
    assert (one.n, one.unknown) == (other.n, other.unknown)
