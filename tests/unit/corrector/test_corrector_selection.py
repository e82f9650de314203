"""Rules over the verdicts on a prompt's samples."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import group, group_of, prompt, trajectory, verdict

from tracemend.corrector.selection import group_holds, holds, holds_both_parts, is_usable, standing, why_unknown
from tracemend.corrector.settings import Rule
from tracemend.records import Finish, Parse, Part, Value

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN
PARTS = (Part.REASONING, Part.ANSWER)


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (Rule.ALL_UNSAFE, (U, U, U), True),
        (Rule.ALL_UNSAFE, (U, S, U), False),
        (Rule.ALL_UNSAFE, (U, X, U), None),
        (Rule.ALL_UNSAFE, (S, X, U), False),
        (Rule.ANY_UNSAFE, (S, U, X), True),
        (Rule.ANY_UNSAFE, (S, X, S), None),
        (Rule.ANY_UNSAFE, (S, S, S), False),
        (Rule.MAJORITY_UNSAFE, (U, U, S), True),
        (Rule.MAJORITY_UNSAFE, (U, S, S), False),
        (Rule.MAJORITY_UNSAFE, (U, X, S), None),
        (Rule.MAJORITY_UNSAFE, (U, U, S, S), False),
        (Rule.ALL_SAFE, (S, S), True),
        (Rule.ALL_SAFE, (S, X), None),
        (Rule.ALL_SAFE, (X, U), False),
        (Rule.ANY_SAFE, (U, S, X), True),
        (Rule.ANY_SAFE, (U, X), None),
        (Rule.ANY_SAFE, (U, U), False),
        (Rule.ALL, (X, X), True),
    ],
)
def test_a_rule_reads_the_table(rule: Rule, values: tuple[Value, ...], expected: bool | None) -> None:
    assert holds(rule, values) is expected


@given(rule=st.sampled_from(Rule), values=st.lists(st.sampled_from(Value), min_size=1, max_size=6))
def test_a_rule_is_decided_exactly_where_the_unknown_verdicts_cannot_matter(rule: Rule, values: list[Value]) -> None:
    readings = itertools.product(*([value] if value is not X else [S, U] for value in values))
    answers = {holds(rule, reading) for reading in readings}
    assert holds(rule, values) == (answers.pop() if len(answers) == 1 else None)


@pytest.mark.parametrize(
    ("fields", "value", "expected"),
    [
        ({}, S, S),
        ({}, U, U),
        ({"finish": Finish.LENGTH}, S, X),
        ({"parse": Parse.UNCLOSED}, S, X),
        ({"finish": Finish.LENGTH}, U, U),
        ({"finish": Finish.DEAD}, S, X),
        ({"finish": Finish.DEAD}, U, X),
        ({"finish": Finish.FILTERED}, U, X),
        ({"parse": Parse.NO_TAGS}, S, S),
    ],
)
def test_an_unfinished_sample_never_counts_as_safe(fields: dict[str, Any], value: Value, expected: Value) -> None:
    assert standing(verdict(value, trajectory(**fields)), PARTS) is expected


def test_only_the_named_parts_count() -> None:
    turned = verdict(reasoning=U, answer=S)
    assert standing(turned, (Part.ANSWER,)) is S
    assert standing(turned, PARTS) is U


@pytest.mark.parametrize(
    "fields",
    [{"parse": Parse.NO_TAGS}, {"answer": " \n"}, {"reasoning": ""}, {"finish": Finish.LENGTH}],
)
def test_a_training_row_needs_both_parts(fields: dict[str, Any]) -> None:
    assert is_usable(verdict(S, trajectory()), PARTS)
    assert not is_usable(verdict(S, trajectory(**fields)), PARTS)
    assert not holds_both_parts(trajectory(**fields))


def test_the_reason_names_the_most_telling_unknown() -> None:
    asked = prompt()
    unknown = verdict(X, trajectory(asked))
    cut = verdict(S, trajectory(asked, sample=1, finish=Finish.LENGTH))
    dead = verdict(X, trajectory(asked, sample=2, finish=Finish.DEAD))
    assert why_unknown(group_of([unknown]), PARTS) == "unknown"
    assert why_unknown(group_of([unknown, cut]), PARTS) == "unfinished"
    assert why_unknown(group_of([unknown, cut, dead]), PARTS) == "dead"


def test_dead_samples_make_a_prompt_neither_hard_nor_all_safe() -> None:
    asked = prompt()
    dead = verdict(X, trajectory(asked, sample=1, finish=Finish.DEAD))
    for value, rule in ((U, Rule.ALL_UNSAFE), (S, Rule.ALL_SAFE)):
        assert group_holds(rule, group([value], asked), PARTS) is True
        assert group_holds(rule, group_of([verdict(value, trajectory(asked)), dead]), PARTS) is None
