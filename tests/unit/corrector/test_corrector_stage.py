"""The corrector between topics: groups and verdicts in, one outcome per unit out, with a teacher in between."""

from collections import Counter, deque
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import cue_at, group, group_of, prompt, rewritten, trajectory, verdict, with_ids
from tests.fakes import FakeModel, completion
from tests.unit.corrector.corrector_plans import arm, plan

from tracemend.corrector.decide import plan_units
from tracemend.corrector.settings import CorrectionPlan
from tracemend.corrector.stage import CorrectorStage, TeacherStage
from tracemend.kit.errors import Reject
from tracemend.kit.ports import Context, Message
from tracemend.kit.stage import Stage
from tracemend.records import (
    Category,
    Cue,
    Finish,
    GenerationRequest,
    Group,
    Outcome,
    OutcomeState,
    Parse,
    RewriteRequest,
    Sampling,
    Trajectory,
    Unit,
    Value,
    Verdict,
)
from tracemend.topics import CONTINUATIONS, GROUPS, OUTCOMES, REWRITES, TRAJECTORIES, VERDICTS

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN
GOOD = "<reasoning>they could be hurt .</reasoning><answer>no .</answer>"
CONTEXT = Context(run="run-1", plan="plan-1", siblings=("request-0", "request-1"))

Judge = Callable[[Trajectory], Verdict]


class Past:
    """The verdicts that were given so far, as stored results would know them."""

    def __init__(self, *verdicts: Verdict) -> None:
        self._verdicts = {verdict.trajectory.id: verdict for verdict in verdicts}

    def remember(self, verdict: Verdict) -> None:
        self._verdicts[verdict.trajectory.id] = verdict

    async def original(self, trajectory: Trajectory) -> Verdict | None:
        found: Verdict | None = None
        while trajectory.parent:
            found = self._verdicts.get(trajectory.parent)
            if found is None:
                return None
            trajectory = found.trajectory
        return found


def gone_on(request: GenerationRequest) -> Trajectory:
    """What a target makes of a fork: the kept ids, a trigger of two, and eight of its own."""
    return trajectory(
        request.prompt,
        sample=request.sample,
        request=request.id,
        parent=request.parent,
        round=request.round,
        intervention=request.intervention,
        token_ids=(*request.prefix_tokens, *range(10)),
        num_new_tokens=8,
    )


def believing(text: Trajectory) -> Verdict:
    """A judge that finds every finished text safe."""
    return verdict(S if text.finish is Finish.STOP else X, text)


async def loop(
    of: CorrectionPlan, event: Group, teacher: FakeModel, *, judge: Judge = believing, context: Context = CONTEXT
) -> list[Message]:
    """Run both stages with a judge between them until nothing is left; every outcome, in order."""
    past = Past(*event.verdicts)
    stages: Sequence[Stage] = (
        CorrectorStage(of, ancestry=past, identities={"strong": teacher.identity}, sampling=Sampling()),
        TeacherStage(of, {"strong": teacher}),
    )
    queue = deque([Message(topic=GROUPS, record=event, context=context)])
    outcomes: list[Message] = []
    while queue:
        message = queue.popleft()
        if message.topic is OUTCOMES:
            outcomes.append(message)
        elif message.topic is CONTINUATIONS:
            fork = gone_on(message.record)
            queue.append(Message(topic=TRAJECTORIES, record=fork, context=message.context))
        elif message.topic is TRAJECTORIES:
            judged = judge(message.record)
            past.remember(judged)
            queue.append(Message(topic=VERDICTS, record=judged, context=message.context))
        else:
            (stage,) = (stage for stage in stages if message.topic in stage.inputs)
            queue.extend(await _worked(stage, message))
    return outcomes


async def _worked(stage: Stage, message: Message) -> Sequence[Message]:
    try:
        produced = (await stage.work(message)).messages
    except Reject as hopeless:
        produced = tuple(stage.dead(message, hopeless.reason))
    return [*produced, *await stage.follow([message])]


ARMS = plan(arm("rewrite"), arm("filter"), arm("policy", options={"drafts": 2, "is_scored": False}))


async def test_every_planned_unit_has_one_outcome_in_its_own_context() -> None:
    event = group((U, U))
    outcomes = await loop(ARMS, event, FakeModel(GOOD))
    units = plan_units(ARMS, event.prompt, num_samples=2)
    assert Counter(message.record.unit for message in outcomes) == Counter(units)
    for message in outcomes:
        assert message.context == Context(run="run-1", plan="plan-1", unit=message.record.unit)
    states = Counter((message.record.unit.arm, message.record.state) for message in outcomes)
    assert states == {
        ("rewrite", OutcomeState.CORRECTED): 1,
        ("filter", OutcomeState.NOT_SELECTED): 2,
        ("policy", OutcomeState.CORRECTED): 2,
    }


REPLIES = st.sampled_from(
    [
        GOOD,
        "no parts",
        "I cannot help with that.",
        completion("", finish=Finish.FILTERED),
        completion(GOOD, finish=Finish.LENGTH),
        Reject("too_long"),
        '{"safety": 10, "policy_relevance": 10, "reasoning_accuracy": 10}',
    ]
)


CUES = st.none() | st.builds(cue_at, st.integers(-1, 4), st.integers(-1, 20))


@given(
    replies=st.lists(REPLIES, min_size=1, max_size=8),
    verdicts=st.lists(st.sampled_from(Value), min_size=1, max_size=8),
    values=st.lists(st.sampled_from(Value), min_size=1, max_size=3),
    cues=st.lists(CUES, min_size=1, max_size=8),
    category=st.sampled_from(Category),
)
async def test_no_teacher_and_no_judge_can_lose_or_double_a_unit(
    replies: list[str], verdicts: list[Value], values: list[Value], cues: list[Cue | None], category: Category
) -> None:
    of = plan(
        arm("rewrite"),
        arm("policy", options={"drafts": 2}, correct_wrong=True),
        arm("rewrite", name="twin", attempts=1),
        arm("intervene", options={"rounds": 2, "per_sample": "all"}),
    )
    asked, given_out, found = prompt(category=category), iter(verdicts * 10), iter(cues * 10)
    samples = [with_ids(asked, sample=number) for number in range(len(values))]
    event = group_of([verdict(v, s, cue=next(found)) for v, s in zip(values, samples, strict=True)])
    outcomes = await loop(
        of, event, FakeModel(*replies), judge=lambda text: verdict(next(given_out, X), text, cue=next(found, None))
    )
    assert Counter(message.record.unit for message in outcomes) == Counter(
        plan_units(of, event.prompt, num_samples=len(values))
    )
    for message in outcomes:
        if message.record.state is OutcomeState.CORRECTED:
            assert message.record.final.trajectory.parse is Parse.CLOSED
            assert message.record.original in event.verdicts


IPO = plan(arm("intervene", teacher="", options={"triggers": "proving", "rounds": 3}))


def turning(*, times: int) -> Judge:
    """A judge with a detector that finds a cue in the first forks of each sample, so many `times`."""

    def judge(fork: Trajectory) -> Verdict:
        if fork.round > times:
            return verdict(S, fork, cue=cue_at(0))
        return verdict(U, fork, cue=cue_at(2 + fork.round, len(fork.token_ids) - 2))

    return judge


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_a_fork_goes_round_until_it_is_accepted(times: int) -> None:
    event = group_of([verdict(U, with_ids(sample=number), cue=cue_at(3, 6)) for number in range(2)])
    outcomes = await loop(IPO, event, FakeModel(GOOD), judge=turning(times=times))
    ends = {message.record.unit: message for message in outcomes}
    assert list(plan_units(IPO, event.prompt, num_samples=2)) == sorted(ends, key=lambda unit: unit.sample)
    for unit, message in ends.items():
        assert (message.record.state, message.record.reason) == (OutcomeState.CORRECTED, "")
        assert message.record.original == event.verdicts[unit.sample], "what a fork of any round goes back to"
        assert message.record.final.trajectory.round == times + 1
        assert message.context == Context(run="run-1", plan="plan-1", unit=unit)


async def test_a_fork_that_keeps_turning_is_given_up_after_its_rounds() -> None:
    event = group_of([verdict(U, with_ids(), cue=cue_at(3, 6))])
    (outcome,) = await loop(IPO, event, FakeModel(GOOD), judge=turning(times=9))
    assert (outcome.record.state, outcome.record.reason) == (OutcomeState.GAVE_UP, "rounds_spent")


async def test_arms_with_equal_forks_share_the_targets_work() -> None:
    of = plan(arm("intervene", name="one", teacher=""), arm("intervene", name="two", teacher=""))
    event = group_of([verdict(U, with_ids(), cue=cue_at(3, 6))])
    one, two = (await corrector(of).work(Message(topic=GROUPS, record=event, context=CONTEXT))).messages
    assert one.topic is two.topic is CONTINUATIONS
    assert one.record == two.record
    assert [message.context.unit.arm for message in (one, two) if message.context.unit] == ["one", "two"]


async def test_a_redriven_group_is_forked_anew() -> None:
    event = group_of([verdict(U, with_ids(), cue=cue_at(3, 6))])
    seeds = set()
    for epoch in (0, 1):
        message = Message(topic=GROUPS, record=event, context=Context(run="run-1", epoch=epoch))
        (fork,) = (await corrector(IPO).work(message)).messages
        seeds.add(fork.record.seed)
    assert len(seeds) == 2


async def test_a_text_that_stays_unsafe_is_given_up_after_its_attempts() -> None:
    teacher = FakeModel(GOOD)
    (outcome,) = await loop(plan(arm(attempts=2)), group((U,)), teacher, judge=lambda text: verdict(U, text))
    assert (outcome.record.state, outcome.record.reason) == (OutcomeState.GAVE_UP, "still_unsafe")
    assert len(teacher.requests) == 2


async def test_a_request_that_was_given_up_ends_its_unit_as_dead() -> None:
    (outcome,) = await loop(plan(arm()), group((U,)), FakeModel(Reject("too_long")))
    assert (outcome.record.state, outcome.record.reason) == (OutcomeState.DEAD, "too_long")


async def test_a_redriven_group_is_written_anew() -> None:
    event, teacher = group((U,)), FakeModel(GOOD)
    for epoch in (0, 1):
        await loop(plan(arm()), event, teacher, context=Context(run="run-1", epoch=epoch))
    first, second = teacher.requests
    assert first.seed != second.seed


# --------------------------------------------------------------------------------------- stage by stage


def corrector(of: CorrectionPlan, *past: Verdict) -> CorrectorStage:
    return CorrectorStage(of, ancestry=Past(*past), identities={"strong": "fake"}, sampling=Sampling())


async def test_base_verdicts_wait_for_their_group() -> None:
    stage = corrector(plan(arm()))
    message = Message(topic=VERDICTS, record=verdict(U), context=CONTEXT)
    assert (await stage.work(message)).messages == ()
    assert stage.key(message) is None
    assert stage.dead(message, "broken") == []


async def test_a_repeated_event_repeats_the_same_messages() -> None:
    stage = corrector(ARMS)
    message = Message(topic=GROUPS, record=group((U, S)), context=CONTEXT)
    assert await stage.work(message) == await stage.work(message)


async def test_arms_with_equal_corrections_share_the_teachers_work() -> None:
    of = plan(arm(name="one"), arm(name="two"))
    event, teacher = group((U,)), FakeModel(GOOD)
    requests = (await corrector(of).work(Message(topic=GROUPS, record=event, context=CONTEXT))).messages
    one, two = requests
    assert one.topic is REWRITES
    assert one.record == two.record
    assert [message.context.unit.arm for message in requests if message.context.unit] == ["one", "two"]
    stage = TeacherStage(of, {"strong": teacher})
    assert stage.key(one) == stage.key(two) == one.record.id
    (text,) = (await stage.work(one)).messages
    shared = Message(topic=text.topic, record=text.record, context=two.context)
    judged = Message(topic=VERDICTS, record=verdict(S, shared.record), context=shared.context)
    (outcome,) = (await corrector(of, *event.verdicts).work(judged)).messages
    assert outcome.record.unit.arm == "two"
    assert repr(Unit(arm="one", prompt=event.prompt.id)) not in repr(text.record)


async def test_a_group_that_was_given_up_ends_all_its_units() -> None:
    event = group((U, S))
    dead = corrector(ARMS).dead(Message(topic=GROUPS, record=event, context=CONTEXT), "bug_KeyError")
    assert [message.record.unit for message in dead] == list(plan_units(ARMS, event.prompt, num_samples=2))
    assert {(message.record.state, message.record.reason) for message in dead} == {(OutcomeState.DEAD, "bug_KeyError")}


@pytest.mark.parametrize(("name", "reason"), [("gone", "unknown_arm"), ("rewrite", "original_missing")])
async def test_a_verdict_that_leads_nowhere_ends_its_unit(name: str, reason: str) -> None:
    original = verdict(U)
    unit = Unit(arm=name, prompt=original.trajectory.prompt.id)
    context = Context(run="run-1", unit=unit)
    message = Message(topic=VERDICTS, record=verdict(S, rewritten(original)), context=context)
    stage = corrector(plan(arm()))
    with pytest.raises(Reject, match=reason):
        await stage.work(message)
    (dead,) = stage.dead(message, reason)
    assert isinstance(dead.record, Outcome)
    assert (dead.record.unit, dead.record.state) == (unit, OutcomeState.DEAD)


async def test_outcomes_differ_in_id_by_unit_and_end() -> None:
    outcomes = await loop(ARMS, group((U, S)), FakeModel(GOOD))
    assert len({message.record.id for message in outcomes}) == len(outcomes)


def test_a_dead_request_leaves_a_trajectory_that_names_no_unit() -> None:
    request = RewriteRequest(
        id="rewrite_1", verdict=verdict(U), strategy="rewrite", attempt=1, variant="", settings="of no plan"
    )
    unit = Unit(arm="rewrite", prompt=trajectory().prompt.id)
    message = Message(topic=REWRITES, record=request, context=Context(run="run-1", unit=unit))
    (dead,) = TeacherStage(plan(arm()), {"strong": FakeModel(GOOD)}).dead(message, "crashed_repeatedly")
    assert (dead.topic, dead.record.finish, dead.context) == (TRAJECTORIES, Finish.DEAD, message.context)
