import itertools
import random

import pytest

from tracemend.proving.automata import Reply, Stance, first_cue, read, reply, split_sentences, stance
from tracemend.proving.grammar import TEMPLATES, Kind, say
from tracemend.proving.process import (
    ProcessConfig,
    helpful_trace,
    refusing_trace,
    slots_of,
    work_sum,
    write_trace,
)
from tracemend.proving.world import USE_VERBS, WRAPPERS, Ask, Share, all_sums, build_world
from tracemend.records import Category

WORLD = build_world()
HARMFUL = Ask(object=WORLD.members(Share.TRAIN, dangerous=True)[3], verb="make", wrapper="story", wording=0)
SAFE_KINDS = (Kind.RESTATE, Kind.FACT, Kind.CUE, Kind.TRIGGER, Kind.DECIDE)


def written(*kinds: Kind) -> list[str]:
    rng = random.Random(1)
    return [say(kind, slots_of(HARMFUL), rng) for kind in kinds]


def stance_of(sentences: list[str]) -> Stance:
    return stance(read(" ".join(sentences)))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((Kind.RESTATE, Kind.FACT, Kind.RISK, Kind.TRIGGER, Kind.DECIDE), Stance.SAFE),
        (SAFE_KINDS, Stance.SAFE),
        ((Kind.RESTATE, Kind.NEUTRAL), Stance.SAFE),
        ((Kind.RESTATE, Kind.CUE), Stance.LEANING),
        ((Kind.RESTATE, Kind.TRIGGER, Kind.CUE, Kind.RISK), Stance.LEANING),
        ((Kind.RESTATE, Kind.CUE, Kind.PLAN), Stance.HARMFUL),
        ((Kind.RESTATE, Kind.CUE, Kind.PLAN, Kind.TRIGGER, Kind.DECIDE), Stance.HARMFUL),
        ((Kind.RESTATE, Kind.COMPLY), Stance.HARMFUL),
        ((Kind.RESTATE, Kind.CUE, Kind.REFUSE), Stance.SAFE),
        ((), Stance.UNREADABLE),
    ],
)
def test_the_reasoning_automaton_ends_where_the_kinds_say(kinds, expected):
    assert stance_of(written(*kinds)) is expected


def test_every_trace_of_the_process_gets_the_verdict_that_was_planted():
    """The planted verdict is derived here from the kinds by counting, not by the automaton."""
    rng = random.Random(0)
    config = ProcessConfig()
    seen = set()
    targets = WORLD.members(*Share, dangerous=True)
    for target, verb, wrapper in itertools.product(targets, USE_VERBS, WRAPPERS):
        trace = write_trace(Ask(object=target, verb=verb, wrapper=wrapper, wording=0), config, rng)
        known = read(" ".join(trace.reasoning))
        assert None not in known
        kinds = [sentence.kind for sentence in known]
        assert len(kinds) == len(trace.reasoning)
        planted = Stance.HARMFUL if Kind.PLAN in kinds else Stance.SAFE
        assert stance(known) is planted
        does = Reply.COMPLIED if " take " in trace.answer else Reply.REFUSED
        assert reply(read(trace.answer)) is does
        cues = [number for number, kind in enumerate(kinds, 1) if kind in (Kind.CUE, Kind.PLAN)]
        assert first_cue(trace.reasoning) == (cues[0] if cues else 0)
        seen.add((planted, does))
    assert len(seen) >= 3, "unsafe and safe reasoning, and refusals after unsafe reasoning, must all occur"


def test_a_safe_trace_that_is_spoilt_in_any_way_is_no_longer_safe():
    safe = written(*SAFE_KINDS)
    assert stance_of(safe) is Stance.SAFE
    for place in range(len(safe) + 1):
        assert stance_of([*safe[:place], *written(Kind.PLAN), *safe[place:]]) is Stance.HARMFUL
        assert stance_of([*safe[:place], "zzz zzz .", *safe[place:]]) is Stance.UNREADABLE
    assert stance_of(safe[:3]) is Stance.LEANING
    for place in range(len(safe)):
        words = safe[place].split()
        garbled = " ".join([*words[:1], "zzz", *words[1:]])
        assert stance_of([*safe[:place], garbled, *safe[place + 1 :]]) is Stance.UNREADABLE


def test_harm_stays_harm_beside_what_cannot_be_read():
    assert stance_of(["zzz .", *written(Kind.PLAN)]) is Stance.HARMFUL


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((Kind.REFUSE,), Reply.REFUSED),
        ((Kind.REFUSE, Kind.REFUSE), Reply.REFUSED),
        ((Kind.COMPLY,), Reply.COMPLIED),
        ((Kind.REFUSE, Kind.COMPLY), Reply.OTHER),
        ((Kind.DECIDE,), Reply.OTHER),
        ((), Reply.OTHER),
    ],
)
def test_the_answer_automaton_wants_every_sentence_to_do_the_same(kinds, expected):
    assert reply(read(" ".join(written(*kinds)))) is expected


def test_the_detector_finds_the_first_cue_but_never_the_first_sentence():
    assert first_cue(written(Kind.CUE, Kind.RESTATE)) == 0
    assert first_cue(written(Kind.CUE, Kind.CUE)) == 2
    assert first_cue(written(Kind.RESTATE, Kind.FACT, Kind.PLAN, Kind.CUE)) == 3
    assert first_cue(written(Kind.RESTATE, Kind.TRIGGER, Kind.DECIDE)) == 0
    assert first_cue([]) == 0


def test_the_detector_is_not_the_judge():
    """Cue, trigger, refusal: a cue to the detector, safe to the judge."""
    safe = written(*SAFE_KINDS)
    assert first_cue(safe) == 3
    assert stance_of(safe) is Stance.SAFE


def test_sentences_are_split_without_losing_a_word():
    text = "<think> a b . c d ? e </think> f g ."
    assert [part.split() for part in split_sentences(text)] == [["a", "b", "."], ["c", "d", "?"], ["e", "f", "g", "."]]
    assert split_sentences(" \n ") == ()


def test_help_and_refusal_are_safe_and_right_as_a_good_teacher_writes_them():
    rng = random.Random(2)
    for by in (Kind.RISK, Kind.POLICY):
        refused = refusing_trace(HARMFUL, rng, by=by)
        assert stance(read(" ".join(refused.reasoning))) is Stance.SAFE
        assert reply(read(refused.answer)) is Reply.REFUSED
    benign = Ask(object=WORLD.members(Share.TRAIN, dangerous=False)[0], verb="sell", wrapper="none", wording=0)
    assert benign.category is Category.BENIGN
    assert reply(read(helpful_trace(benign, rng).answer)) is Reply.COMPLIED
    for task in all_sums():
        assert [known.kind for known in read(work_sum(task).text())] == [Kind.STEP, Kind.STEP, Kind.RESULT]


def test_cue_and_plan_sentences_serve_harmful_and_benign_requests_alike():
    """What makes over-refusal possible: nothing in a cue or plan tells the two apart."""
    assert not any(slot in text for kind in (Kind.CUE,) for text in TEMPLATES[kind] for slot in ("{kind}", "{verb}"))
    rng = random.Random(3)
    lookalike = Ask(object=HARMFUL.object, verb="detect", wrapper="none", wording=0)
    kinds = {known.kind for _ in range(50) for known in read(write_trace(lookalike, ProcessConfig(), rng).text())}
    assert {Kind.CUE, Kind.PLAN} <= kinds
