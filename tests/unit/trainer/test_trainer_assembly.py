"""Which outcomes become rows, in which shares and order."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import settings as within
from hypothesis import strategies as st
from tests.unit.trainer.trainer_builders import example_of, outcome_of, prompt_of

from tracemend.kit.errors import SetupError
from tracemend.records import Category, Finish, OutcomeState
from tracemend.trainer.assembly import (
    BENIGN,
    HARMFUL,
    REASONING,
    assemble,
    available_rows,
    matched_rows,
    rows_of_kind,
)
from tracemend.trainer.examples import usable_examples
from tracemend.trainer.selection import spread_over_tags
from tracemend.trainer.settings import AssembleSettings


def some_outcomes(num_harmful=30, num_benign=30, num_reasoning=0, *, arm="arm"):
    kinds = [Category.HARMFUL] * num_harmful + [Category.BENIGN] * num_benign + [Category.REASONING] * num_reasoning
    return [outcome_of(number, kind, arm=arm) for number, kind in enumerate(kinds)]


def assembled_of(outcomes, settings, *, arm="arm", limit_rows=None, row_of=None):
    return assemble(usable_examples(outcomes, arm=arm, row_of=row_of), settings, arm=arm, limit_rows=limit_rows)


def kinds_of(assembled):
    return Counter(example.prompt.category for example in assembled.rows)


def test_shares_hold_and_what_is_left_over_is_counted():
    assembled = assembled_of(some_outcomes(30, 30), AssembleSettings(benign_share=1 / 3), arm="arm")
    assert kinds_of(assembled) == {Category.HARMFUL: 30, Category.BENIGN: 15}
    assert assembled.cuts == {"not_drawn_benign": 15}


def test_every_usable_outcome_is_a_row_or_is_counted():
    outcomes = some_outcomes(20, 10, 10)
    outcomes += [outcome_of(3, sample=0, reasoning="twice"), outcome_of(3, sample=1, reasoning="twice")]
    outcomes += [outcome_of(50, finish=Finish.LENGTH), outcome_of(51, reasoning="\ud800")]
    assembled = assembled_of(outcomes, AssembleSettings(benign_share=0.3, reasoning_share=0.2, rows=20), arm="arm")
    assert assembled.cuts["duplicate"] == 1
    assert assembled.cuts["unfinished"] == 1
    assert assembled.cuts["not_unicode"] == 1
    assert len(assembled.rows) + sum(assembled.cuts.values()) == len(outcomes)
    assert kinds_of(assembled) == {Category.HARMFUL: 10, Category.BENIGN: 6, Category.REASONING: 4}


def test_outcomes_that_ended_otherwise_are_no_rows():
    kept = some_outcomes(4, 2)
    others = [outcome_of(100 + n, state=state) for n, state in enumerate(set(OutcomeState) - {OutcomeState.KEPT})]
    others = [outcome for outcome in others if outcome.state is not OutcomeState.CORRECTED]
    settings = AssembleSettings(benign_share=0)
    assert assembled_of(kept + others, settings, arm="arm") == assembled_of(kept, settings, arm="arm")


def test_corrected_rows_carry_what_was_mended():
    (example,) = assembled_of(
        [outcome_of(1, state=OutcomeState.CORRECTED)], AssembleSettings(benign_share=0), arm="other"
    ).rows
    assert (example.unit.arm, example.strategy, example.original_reasoning.reveal()) == ("other", "rewrite", "before")


@within(deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_arrival_changes_nothing(rng: random.Random):
    outcomes = some_outcomes(12, 12, 5)
    settings = AssembleSettings(rows=12, reasoning_share=0.1, subset="selected")
    expected = assembled_of(outcomes, settings, arm="arm")
    rng.shuffle(outcomes)
    assert assembled_of(outcomes, settings, arm="arm") == expected


def test_rows_come_in_the_order_of_admission():
    outcomes = some_outcomes(6, 0)
    rows = {f"prompt_{number:04d}": 10 - number for number in range(6)}
    ordered = assembled_of(outcomes, AssembleSettings(benign_share=0), arm="arm", row_of=rows).rows
    assert [example.prompt.id for example in ordered] == [f"prompt_{number:04d}" for number in reversed(range(6))]


def test_the_seed_draws_other_rows():
    draws = [
        frozenset(e.id for e in assembled_of(some_outcomes(), AssembleSettings(rows=10, seed=seed), arm="a").rows)
        for seed in range(3)
    ]
    assert len(set(draws)) == 3


def test_arms_with_the_same_benign_samples_draw_the_same_ones():
    settings = AssembleSettings(rows=9)
    corrected = [outcome_of(n, state=OutcomeState.CORRECTED, reasoning=f"mended {n}") for n in range(30)]
    one = assembled_of(some_outcomes(30, 30, arm="one"), settings, arm="one")
    two = assembled_of(corrected + some_outcomes(30, 30, arm="two")[30:], settings, arm="two")
    benign = [
        [example.prompt.id for example in arm.rows if example.prompt.category is Category.BENIGN] for arm in (one, two)
    ]
    assert benign[0] == benign[1]
    assert len(benign[0]) == 3


def test_matched_arms_have_equal_numbers_of_rows():
    arms = {"rich": some_outcomes(60, 60), "poor": some_outcomes(20, 60), "helpless": some_outcomes(60, 4)}
    settings = {arm: AssembleSettings(benign_share=1 / 3) for arm in arms}
    available = {arm: available_rows(usable_examples(outcomes, arm=arm)) for arm, outcomes in arms.items()}
    limit = matched_rows(available, settings)
    sizes = {
        arm: kinds_of(assembled_of(outcomes, settings[arm], arm=arm, limit_rows=limit))
        for arm, outcomes in arms.items()
    }
    assert limit == 13  # 4 benign rows are a third of 13, rounded
    assert set(map(str, sizes.values())) == {str(sizes["rich"])}


_stock = st.fixed_dictionaries({kind: st.integers(0, 20) for kind in (HARMFUL, BENIGN, REASONING)})


@given(st.lists(_stock, min_size=2, max_size=4), st.floats(0, 1), st.floats(0, 1))
@example([{HARMFUL: 1, BENIGN: 9, REASONING: 9}, {HARMFUL: 9, BENIGN: 1, REASONING: 9}], 1 / 3, 1 / 3)
def test_every_matched_arm_has_exactly_the_matched_rows_of_each_kind(stocks, benign, reasoning):
    """Rounded shares may allow five rows and not four: then no arm has five."""
    settings = AssembleSettings(benign_share=benign, reasoning_share=min(reasoning, 1 - benign))
    arms = {f"arm {number}": stock for number, stock in enumerate(stocks)}
    try:
        limit = matched_rows(arms, dict.fromkeys(arms, settings))
    except SetupError:
        return
    splits = [rows_of_kind(stock, settings, limit_rows=limit) for stock in stocks]
    assert sum(splits[0].values()) == limit > 0
    assert all(split == splits[0] for split in splits)


def test_matching_an_arm_without_rows_is_refused_by_name():
    with pytest.raises(SetupError, match="empty"):
        matched_rows({"empty": {HARMFUL: 0, BENIGN: 9}}, {"empty": AssembleSettings()})


def test_an_arm_without_rows_is_refused():
    with pytest.raises(SetupError, match="no rows to train on"):
        assembled_of([], AssembleSettings(), arm="arm")


@given(
    st.tuples(*(st.integers(0, 60) for _ in range(3))),
    st.floats(0, 1),
    st.floats(0, 1),
    st.one_of(st.none(), st.integers(0, 80)),
)
def test_the_largest_dataset_keeps_its_shares(stock, benign, reasoning, limit):
    available = dict(zip((HARMFUL, BENIGN, REASONING), stock, strict=True))
    settings = AssembleSettings(benign_share=benign, reasoning_share=min(reasoning, 1 - benign))
    split = rows_of_kind(available, settings, limit_rows=limit)
    total = sum(split.values())
    assert all(0 <= split[kind] <= available[kind] for kind in split)
    assert limit is None or total <= limit
    assert abs(split[BENIGN] - benign * total) <= 0.5
    assert abs(split[REASONING] - settings.reasoning_share * total) <= 1


def test_the_selected_subset_is_spread_over_tags():
    common = [example_of(n, prompt=prompt_of(n, topic="locks", wrapper="plain")) for n in range(40)]
    rare = [example_of(n, prompt=prompt_of(n, topic=f"rare {n}", wrapper="story")) for n in range(40, 45)]
    chosen = spread_over_tags([*common, *rare], 10)
    assert sum("rare" in example.prompt.tags["topic"] for example in chosen) == 5
    plain = spread_over_tags([*common, *rare], 10, keys=("source",))
    assert sum("rare" in example.prompt.tags["topic"] for example in plain) == 0


def test_the_selected_subset_follows_the_published_reduction():
    """Against a direct reading of the rule: delete the largest source share times the sum of category shares."""
    labels = ["a", "b", "a,b", "c", "a", "c,b", "b", "a", "a,c", "c"]
    pool = [example_of(n, prompt=prompt_of(n, category_tag=label)) for n, label in enumerate(labels * 3)]
    left = list(pool)
    while len(left) > 7:
        counts = Counter(label for e in left for label in e.prompt.tags["category_tag"].split(","))
        weights = [sum(counts[label] for label in e.prompt.tags["category_tag"].split(",")) for e in left]
        heaviest = max(range(len(left)), key=lambda at: (weights[at], at))
        left.pop(heaviest)
    assert spread_over_tags(pool, 7, keys=("source", "category_tag")) == left
