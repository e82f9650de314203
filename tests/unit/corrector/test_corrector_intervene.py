"""Where a sample is cut, when a fork is accepted, and how every other end is called."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import cue_at, forked, group_of, prompt, trajectory, verdict, with_ids

from tracemend.corrector.actions import Conclude, Continue
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategy import Slot, Strategy, Terms, make_strategy
from tracemend.corrector.triggers import pool
from tracemend.kit.errors import SetupError
from tracemend.records import Cue, Finish, OutcomeState, Parse, Part, Trajectory, Unit, Value, Verdict

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN
TRIGGER, *OTHERS = pool("safety")
UNIT = Unit(arm="ipo", prompt=prompt().id, sample=0, variant=TRIGGER.id)
CUE, NO_CUE = cue_at(3, 6), cue_at(0)
ORIGINAL = verdict(of=with_ids(), reasoning=U, answer=S, cue=CUE)


def intervene(*, terms: Terms | None = None, **options: Any) -> Strategy:
    return make_strategy("intervene", terms or Terms(), options)


def end_of_group(own: Verdict, **options: Any) -> tuple[OutcomeState, str]:
    action = intervene(**options).on_group(group_of([own]), UNIT)
    assert isinstance(action, Conclude)
    assert action.final is None
    return action.state, action.reason


def end_of_fork(fork: Verdict, **options: Any) -> tuple[OutcomeState, str]:
    action = intervene(**options).on_verdict(fork, UNIT, ORIGINAL)
    assert isinstance(action, Conclude)
    assert action.original is ORIGINAL
    assert (action.final is fork) == (action.state is OutcomeState.CORRECTED)
    return action.state, action.reason


# ------------------------------------------------------------------------------------------- units


def test_each_sample_gets_the_next_trigger_in_turn() -> None:
    slots = intervene(triggers=("safety/decline", "safety/not-right")).units(prompt(), 3)
    assert slots == (Slot(0, "decline"), Slot(1, "not-right"), Slot(2, "decline"))


def test_as_many_samples_as_triggers_give_one_rollout_per_prompt_and_trigger() -> None:
    slots = intervene().units(prompt(), 6)
    assert [slot.variant for slot in slots] == [trigger.id for trigger in pool("safety")]
    assert [slot.sample for slot in slots] == list(range(6))


def test_all_triggers_may_be_tried_on_every_sample() -> None:
    slots = intervene(per_sample="all").units(prompt(), 2)
    assert len(slots) == len(set(slots)) == 12


@pytest.mark.parametrize(
    "options",
    [
        {"triggers": "safty"},
        {"triggers": ["safety/declin"]},
        {"triggers": ["decline"]},
        {"triggers": []},
        {"triggers": ["safety/decline", "safety/decline"]},
        {"rounds": 0},
        {"per_sample": "some"},
    ],
)
def test_faulty_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        intervene(**options)


# ------------------------------------------------------------------------------------------ samples


def test_an_unsafe_reasoning_is_cut_before_its_cue_although_the_answer_is_safe() -> None:
    action = intervene().on_group(group_of([ORIGINAL]), UNIT)
    assert action == Continue(
        unit=UNIT, verdict=ORIGINAL, strategy="intervene", trigger=TRIGGER, cut_token=6, round=1, attempt=1
    )


def sample(value: Value = U, cue: Cue | None = CUE, *, of: Trajectory | None = None, answer: Value = S) -> Verdict:
    return verdict(of=of or with_ids(), reasoning=value, answer=answer, cue=cue)


DEAD = with_ids(finish=Finish.DEAD, parse=Parse.UNCLOSED)
CUT_OFF = with_ids(finish=Finish.LENGTH, parse=Parse.UNCLOSED)
WITHHELD = with_ids(finish=Finish.FILTERED)
GAVE_UP, NOT_SELECTED = OutcomeState.GAVE_UP, OutcomeState.NOT_SELECTED


@pytest.mark.parametrize(
    ("own", "end"),
    [
        (sample(S, cue=None), (NOT_SELECTED, "safe")),
        (sample(S, cue=None, answer=U), (NOT_SELECTED, "safe")),
        (sample(X), (NOT_SELECTED, "unknown_verdict")),
        (sample(X, of=CUT_OFF), (NOT_SELECTED, "unfinished")),
        (sample(X, of=WITHHELD), (NOT_SELECTED, "provider_filter")),
        (sample(X, of=DEAD), (OutcomeState.DEAD, "dead")),
        (sample(U, of=CUT_OFF), (GAVE_UP, "unfinished")),
        (sample(cue=None), (GAVE_UP, "no_detector")),
        (sample(cue=cue_at(0)), (GAVE_UP, "no_cue")),
        (sample(cue=cue_at(-1)), (GAVE_UP, "cue_unknown")),
        (sample(cue=cue_at(3)), (GAVE_UP, "no_token_ids")),
        (sample(of=trajectory()), (GAVE_UP, "no_token_ids")),
        (sample(cue=cue_at(2, 0)), (GAVE_UP, "cue_in_prefix")),
        (sample(cue=cue_at(2, 1)), (GAVE_UP, "cue_in_prefix")),
        (sample(cue=cue_at(2, 20)), (GAVE_UP, "cue_in_prefix")),
    ],
)
def test_a_sample_that_is_not_cut_says_why(own: Verdict, end: tuple[OutcomeState, str]) -> None:
    assert end_of_group(own) == end


def test_the_arm_may_ask_for_hard_prompts_and_other_parts() -> None:
    easy = verdict(S, with_ids(sample=1))
    strategy = make_strategy("intervene", Terms(rule=Rule.ALL_UNSAFE), {})
    action = strategy.on_group(group_of([ORIGINAL, easy]), UNIT)
    assert isinstance(action, Conclude)
    assert (action.state, action.reason) == (NOT_SELECTED, "not_all_unsafe")
    whole = make_strategy("intervene", Terms(parts=(Part.ANSWER,)), {}).on_group(group_of([ORIGINAL]), UNIT)
    assert isinstance(whole, Conclude)
    assert whole.reason == "safe"


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        (dataclasses.replace(UNIT, sample=7), "sample_missing"),
        (dataclasses.replace(UNIT, variant="of another pool"), "trigger_missing"),
    ],
)
def test_a_unit_that_nothing_belongs_to_is_dead(unit: Unit, reason: str) -> None:
    action = intervene().on_group(group_of([ORIGINAL]), unit)
    assert isinstance(action, Conclude)
    assert (action.state, action.reason) == (OutcomeState.DEAD, reason)


# -------------------------------------------------------------------------------------------- forks


def fork(
    value: Value = S, cue: Cue | None = NO_CUE, *, safe_answer: Value = S, of: Verdict = ORIGINAL, **f: Any
) -> Verdict:
    return verdict(of=forked(of, variant=TRIGGER.id, **f), reasoning=value, answer=safe_answer, cue=cue)


def test_a_fork_without_a_cue_that_is_verified_and_whole_is_the_correction() -> None:
    assert end_of_fork(fork()) == (OutcomeState.CORRECTED, "")


@pytest.mark.parametrize(
    ("judged", "end"),
    [
        (fork(U), (GAVE_UP, "still_unsafe")),
        (fork(X), (GAVE_UP, "unknown_verdict")),
        (fork(safe_answer=U), (GAVE_UP, "still_unsafe")),
        (fork(finish=Finish.LENGTH), (GAVE_UP, "unfinished")),
        (fork(parse=Parse.UNCLOSED), (GAVE_UP, "unfinished")),
        (fork(parse=Parse.NO_TAGS), (GAVE_UP, "missing_part")),
        (fork(answer=" "), (GAVE_UP, "missing_part")),
        (fork(X, finish=Finish.FILTERED), (OutcomeState.REJECTED, "provider_filter")),
        (fork(X, cue_at(-1), finish=Finish.DEAD, token_ids=(), num_new_tokens=0), (OutcomeState.DEAD, "dead")),
        (fork(cue=None), (GAVE_UP, "no_detector")),
        (fork(cue=cue_at(-1)), (GAVE_UP, "cue_unknown")),
        (fork(cue=cue_at(4, 12)), (GAVE_UP, "rounds_spent")),
        (fork(U, cue_at(4, 12)), (GAVE_UP, "rounds_spent")),
        (fork(U, cue_at(4)), (GAVE_UP, "no_token_ids")),
    ],
)
def test_a_fork_that_is_not_accepted_says_why(judged: Verdict, end: tuple[OutcomeState, str]) -> None:
    assert end_of_fork(judged) == end


def test_an_answer_need_not_be_safe_where_the_arm_verifies_the_reasoning_alone() -> None:
    strategy = intervene(terms=Terms(verify=(Part.REASONING,)))
    judged = fork(safe_answer=U)
    action = strategy.on_verdict(judged, UNIT, ORIGINAL)
    assert isinstance(action, Conclude)
    assert action.final is judged


@pytest.mark.parametrize(("token", "is_cut"), [(3, False), (6, False), (8, False), (9, True), (12, True), (17, False)])
def test_a_new_cue_is_cut_where_it_lies_behind_what_the_model_was_given(token: int, is_cut: bool) -> None:
    """Six ids were kept and three are the trigger's; the fork has seventeen."""
    judged = fork(U, cue_at(4, token))
    action = intervene(rounds=2).on_verdict(judged, UNIT, ORIGINAL)
    if is_cut:
        assert action == Continue(
            unit=UNIT, verdict=judged, strategy="intervene", trigger=TRIGGER, cut_token=token, round=2, attempt=2
        )
    else:
        assert isinstance(action, Conclude)
        assert (action.state, action.reason) == (GAVE_UP, "cue_in_prefix")


def test_a_cue_is_cut_again_although_the_verifier_found_the_fork_safe() -> None:
    assert isinstance(intervene(rounds=2).on_verdict(fork(S, cue_at(4, 12)), UNIT, ORIGINAL), Continue)


def test_all_rounds_use_the_units_trigger_and_cut_further_back_each_time() -> None:
    strategy, judged, cuts = intervene(rounds=5), ORIGINAL, [6]
    for round_ in range(1, 6):
        judged = fork(U, cue_at(2 + round_, 6 * (round_ + 1)), of=judged, cut=cuts[-1], num_new=9)
        assert judged.trajectory.token_ids[:6] == ORIGINAL.trajectory.token_ids[:6]
        action = strategy.on_verdict(judged, UNIT, ORIGINAL)
        if round_ == 5:
            assert isinstance(action, Conclude)
            assert action.reason == "rounds_spent"
            break
        assert isinstance(action, Continue)
        assert action.trigger == TRIGGER
        cuts.append(action.cut_token)
    assert cuts == [6, 12, 18, 24, 30]


def test_a_redriven_unit_counts_its_attempts_on() -> None:
    strategy = intervene(terms=Terms(epoch=2), rounds=3)
    first = strategy.on_group(group_of([ORIGINAL]), UNIT)
    second = strategy.on_verdict(fork(U, cue_at(4, 12)), UNIT, ORIGINAL)
    assert isinstance(first, Continue)
    assert isinstance(second, Continue)
    assert [(first.round, first.attempt), (second.round, second.attempt)] == [(1, 7), (2, 8)]


VALUES, TOKENS = st.sampled_from(Value), st.integers(-1, 25)


@given(
    data=st.data(),
    value=VALUES,
    rounds=st.integers(1, 5),
    finish=st.sampled_from(Finish),
    parse=st.sampled_from(Parse),
    has_ids=st.booleans(),
)
def test_every_chain_of_forks_ends_and_shares_the_first_cut(
    data: st.DataObject, value: Value, rounds: int, finish: Finish, parse: Parse, has_ids: bool
) -> None:
    def cue() -> Cue | None:
        return data.draw(st.none() | st.builds(cue_at, st.integers(-1, 9), TOKENS))

    of = with_ids(finish=finish, parse=parse) if has_ids else trajectory(finish=finish, parse=parse)
    original = verdict(of=of, reasoning=value, answer=data.draw(VALUES), cue=cue())
    strategy = intervene(rounds=rounds)
    action, num_forks = strategy.on_group(group_of([original]), UNIT), 0
    while isinstance(action, Continue):
        num_forks += 1
        assert action.round == num_forks <= rounds
        parent = action.verdict.trajectory
        assert 0 < action.cut_token < len(parent.token_ids)
        kinds = {"finish": data.draw(st.sampled_from(Finish)), "parse": data.draw(st.sampled_from(Parse))}
        child = forked(action.verdict, cut=action.cut_token, variant=TRIGGER.id, **kinds)
        judged = verdict(of=child, reasoning=data.draw(VALUES), answer=data.draw(VALUES), cue=cue())
        action = strategy.on_verdict(judged, UNIT, original)
    assert isinstance(action, Conclude)
    assert action.unit == UNIT
    assert bool(action.reason) == (action.state is not OutcomeState.CORRECTED)
    if action.state is OutcomeState.CORRECTED:
        assert action.final is not None
        assert original.cue is not None
        assert original.value((Part.REASONING,)) is U
        assert action.final.cue is not None
        assert action.final.cue.step == 0
        assert action.final.value((Part.REASONING, Part.ANSWER)) is S
        assert action.final.trajectory.is_finished
        h = original.cue.token
        assert action.final.trajectory.token_ids[:h] == of.token_ids[:h]
