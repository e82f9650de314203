"""Which outcomes become pairs, and that none breaks an invariant of pairs (methods.md §12.6 [P])."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import settings as within
from hypothesis import strategies as st
from tests.unit.trainer.pair_builders import TEMPLATE, ids
from tests.unit.trainer.pair_outcomes import TRIGGER, answered, forked, natural, refused, response, with_sides

from tracemend.records import Finish, OutcomeState, Parse
from tracemend.redaction import Text
from tracemend.trainer.pairs import PairSources, shares_prefix, usable_pairs

ENDS = TEMPLATE.end_token_ids


def pairs_of(*mended, refusals=(), answers=(), arm="arm", **rows):
    sources = PairSources(mended=mended, refusals=refusals, answers=answers)
    return usable_pairs(sources, TEMPLATE, arm=arm, **rows)


def test_a_fork_is_preferred_to_what_it_was_cut_from():
    outcome = forked(1)
    (pair,) = pairs_of(outcome, arm="other").rows
    h = pair.prefix_tokens
    assert h == outcome.original.cue.token > 0
    assert pair.chosen_tokens[:h] == pair.rejected_tokens[:h]
    assert pair.chosen_tokens[h:][: len(ids(f" {TRIGGER}"))] == ids(f" {TRIGGER}")
    assert pair.chosen_tokens == outcome.final.trajectory.token_ids
    assert pair.rejected_tokens == outcome.original.trajectory.token_ids
    assert (pair.kind, pair.round, pair.trigger.reveal()) == ("intervened", 1, TRIGGER)
    assert (pair.detector, pair.judge, pair.verifier) == ("detector", "reasoning-unsafe", "reasoning-safe")
    assert (pair.unit.arm, pair.unit.sample, pair.unit.variant) == ("other", 0, "t1")


def test_texts_are_what_the_ids_say_tags_and_end_included():
    (pair,) = pairs_of(forked(1)).rows
    assert pair.chosen.reveal() == TEMPLATE.decode(pair.chosen_tokens).reveal()
    assert pair.chosen.reveal().startswith("<think>")
    assert pair.rejected.reveal().endswith("<|end|>")
    assert isinstance(pair.chosen, Text)


def test_two_samples_of_a_prompt_share_nothing_but_the_prompt():
    (pair,) = pairs_of(natural(1)).rows
    assert (pair.kind, pair.prefix_tokens, pair.trigger.reveal(), pair.round) == ("natural", 0, "", 0)
    assert shares_prefix(pair)


def test_an_answer_is_preferred_to_a_refusal_of_the_same_prompt():
    refusals = [refused(1), refused(2), refused(9)]
    found = pairs_of(refusals=refusals, answers=[answered(1), answered(2), answered(3)], arm="second")
    assert [(pair.kind, pair.unit.arm, pair.unit.prompt) for pair in found.rows] == [
        ("benign", "second", "prompt_0001"),
        ("benign", "second", "prompt_0002"),
    ]
    assert found.cuts == {"nothing_preferred": 1}
    assert found.rows[0].rejected_tokens == refusals[0].original.trajectory.token_ids
    assert (found.rows[0].judge, found.rows[0].verifier) == ("answer-unsafe", "answer-safe")


def test_kept_answers_and_other_ends_are_no_pairs():
    others = [
        dataclasses.replace(forked(1), state=state, final=None)
        for state in set(OutcomeState) - {OutcomeState.KEPT, OutcomeState.CORRECTED}
    ]
    refused_by_the_base = dataclasses.replace(refused(4), original=None)
    found = pairs_of(answered(1), *others, refusals=[refused_by_the_base], answers=[answered(4)])
    assert (found.rows, found.cuts) == ((), {})


def without_ids(outcome):
    return with_sides(outcome, original={"token_ids": ()})


def without_cue(outcome):
    return dataclasses.replace(outcome, original=dataclasses.replace(outcome.original, cue=None))


def with_cue_at(outcome, token):
    cue = dataclasses.replace(outcome.original.cue, token=token)
    return dataclasses.replace(outcome, original=dataclasses.replace(outcome.original, cue=cue))


def with_trigger(outcome, trigger):
    step = dataclasses.replace(outcome.final.trajectory.intervention, payload=Text(trigger))
    return with_sides(outcome, final={"intervention": step})


def rewritten(outcome):
    step = dataclasses.replace(outcome.final.trajectory.intervention, kind="rewrite")
    return with_sides(outcome, final={"intervention": step})


def drifted(outcome):
    """The fork's kept ids are other ids for the same beginning, as after tokenising its text anew."""
    chosen = outcome.final.trajectory.token_ids
    return with_sides(outcome, final={"token_ids": (chosen[1], chosen[0], *chosen[2:])})


FAULTS = {
    "unfinished": lambda o: with_sides(o, final={"finish": Finish.LENGTH}),
    "rejected_unfinished": lambda o: with_sides(o, original={"finish": Finish.LENGTH, "parse": Parse.UNCLOSED}),
    "no_answer": lambda o: with_sides(o, final={"answer": Text(" ")}),
    "not_unicode": lambda o: with_sides(o, original={"reasoning": Text("\ud800")}),
    "no_token_ids": without_ids,
    "no_reasoning": lambda o: with_sides(o, original={"parse": Parse.NO_TAGS}),
    "not_intervened": rewritten,
    "no_cue": without_cue,
    "no_prefix": lambda o: with_cue_at(o, 0),
    "prefix_differs": drifted,
    "no_trigger": lambda o: with_trigger(o, "something else"),
    "no_end_token": lambda o: with_sides(o, final={"token_ids": o.final.trajectory.token_ids[:-1]}),
    "sides_equal": lambda o: with_sides(o, final={"token_ids": o.original.trajectory.token_ids}),
    "nothing_rejected": lambda o: dataclasses.replace(o, original=None),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_pair_that_breaks_an_invariant_is_cut_and_counted(reason):
    found = pairs_of(forked(1), FAULTS[reason](forked(2)))
    assert [pair.unit.prompt for pair in found.rows] == ["prompt_0001"]
    assert found.cuts == {reason: 1}


def test_a_cue_that_the_detector_could_not_place_gives_no_pair():
    assert pairs_of(with_cue_at(forked(1), -1)).cuts == {"no_cue": 1}


def test_a_cut_behind_where_the_sides_part_is_no_shared_prefix():
    whole = len(forked(1).original.trajectory.token_ids)
    for token in (forked(1).original.cue.token + 4, whole, whole + 9):
        assert pairs_of(with_cue_at(forked(1), token)).cuts == {"prefix_differs": 1}


def test_what_follows_the_first_end_token_is_no_part_of_a_pair():
    outcome = forked(1)
    longer = with_sides(outcome, original={"token_ids": (*outcome.original.trajectory.token_ids, 5, 6)})
    (pair,) = pairs_of(longer).rows
    assert pair.rejected_tokens == outcome.original.trajectory.token_ids
    assert sum(token in ENDS for token in pair.rejected_tokens) == 1


def test_the_cut_of_later_rounds_is_the_first_one():
    """A fork of a fork keeps its trigger and a longer prefix; against the original it shares what was kept first."""
    first = forked(1)
    step = dataclasses.replace(first.final.trajectory.intervention, cut_token=first.original.cue.token + 9)
    (pair,) = pairs_of(with_sides(first, final={"intervention": step, "round": 3})).rows
    assert (pair.prefix_tokens, pair.round) == (first.original.cue.token, 3)
    assert shares_prefix(pair)


def test_equal_forks_of_several_triggers_give_one_pair():
    same = [forked(1, variant=f"t{number}") for number in (3, 1, 2)]
    found = pairs_of(*same, forked(1, variant="t4", continuation=" first.\n</think>\n\nno."))
    assert [pair.unit.variant for pair in found.rows] == ["t1", "t4"]
    assert found.cuts == {"duplicate": 2}


@within(deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_arrival_changes_no_pair(rng: random.Random):
    mended = [forked(n, sample=k, variant=f"t{k}") for n in range(4) for k in range(3)] + [forked(2, variant="t9")]
    refusals, answers = [refused(n) for n in range(20, 24)], [answered(n) for n in range(20, 24)]
    expected = pairs_of(*mended, refusals=refusals, answers=answers)
    for outcomes in (mended, refusals, answers):
        rng.shuffle(outcomes)
    assert pairs_of(*mended, refusals=refusals, answers=answers) == expected


def test_pairs_come_in_the_order_of_admission():
    row_of = {f"prompt_{number:04d}": 10 - number for number in range(4)}
    found = pairs_of(*(forked(number, sample=k) for k in (1, 0) for number in range(4)), row_of=row_of)
    places = [(pair.prompt.id, pair.unit.sample) for pair in found.rows]
    assert places == [(f"prompt_{number:04d}", k) for number in (3, 2, 1, 0) for k in (0, 1)]


def test_every_outcome_is_a_pair_or_is_counted():
    mended = [make(forked(20 + at)) for at, make in enumerate(FAULTS.values())] + [forked(n) for n in range(5)]
    found = pairs_of(*mended, refusals=[refused(50), refused(51)], answers=[answered(50)])
    assert len(found.rows) + sum(found.cuts.values()) == len(mended) + 2


def test_pairs_of_other_ids_have_other_names():
    ids_of = {pair.id for pair in pairs_of(*(forked(n, variant=v) for n in range(3) for v in ("a", "b"))).rows}
    assert len(ids_of) == 3
    moved = pairs_of(with_sides(natural(1), final={"token_ids": response("wait.", "no.")})).rows
    assert moved[0].id != pairs_of(natural(1)).rows[0].id
