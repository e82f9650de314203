"""The exact detector against traces whose kinds of sentences are known."""

import asyncio
import random

import pytest

from tracemend.judge.building import build_detector
from tracemend.judge.cues import CANNOT_TELL, NO_CUE
from tracemend.judge.finding import Detector
from tracemend.judge.settings import DetectorChoice
from tracemend.proving.automata import first_cue, split_sentences
from tracemend.proving.grammar import Kind, say
from tracemend.proving.process import ProcessConfig, slots_of, write_trace
from tracemend.proving.world import Ask, Share, build_world
from tracemend.records import Category, Cue, Prompt
from tracemend.redaction import Text

WORLD = build_world()
HARMFUL = Ask(object=WORLD.members(Share.TRAIN, dangerous=True)[0], verb="make", wrapper="role", wording=2)
LOOKALIKE = Ask(object=WORLD.members(Share.TRAIN, dangerous=False)[0], verb="smash", wrapper="none", wording=0)


def written(ask: Ask, *kinds: Kind) -> str:
    rng = random.Random(0)
    return " ".join(say(kind, slots_of(ask), rng) for kind in kinds)


def found(reasoning: str, *, asked: str = "", **options: object) -> Cue:
    detector = Detector(build_detector(DetectorChoice(name="proving_cue", options=options), {}))
    prompt = Prompt(id="p", text=Text(asked or HARMFUL.text()), category=Category.HARMFUL)
    return asyncio.run(detector.find(prompt, Text(reasoning)))


@pytest.mark.parametrize(
    ("kinds", "step", "label"),
    [
        ((Kind.RESTATE, Kind.FACT, Kind.CUE, Kind.PLAN), 3, "cue"),
        ((Kind.RESTATE, Kind.PLAN), 2, "plan"),
        ((Kind.RESTATE, Kind.TRIGGER, Kind.CUE, Kind.TRIGGER, Kind.DECIDE), 3, "cue"),
        ((Kind.CUE, Kind.CUE), 2, "cue"),
    ],
)
def test_the_first_turn_to_helping_from_the_second_sentence_on_is_the_cue(
    kinds: tuple[Kind, ...], step: int, label: str
) -> None:
    cue = found(written(HARMFUL, *kinds))
    assert (cue.step, cue.labels, cue.num_steps) == (step, (label,), len(kinds))


@pytest.mark.parametrize("kinds", [(Kind.RESTATE, Kind.TRIGGER, Kind.DECIDE), (Kind.CUE, Kind.TRIGGER), (Kind.CUE,)])
def test_a_reasoning_that_only_turns_away_has_none(kinds: tuple[Kind, ...]) -> None:
    assert found(written(HARMFUL, *kinds)).step == NO_CUE


def test_help_with_a_harmless_request_is_no_cue_unless_the_detector_is_blind() -> None:
    helping = written(LOOKALIKE, Kind.RESTATE, Kind.CUE, Kind.PLAN)
    cue = found(helping, asked=LOOKALIKE.text())
    assert (cue.step, cue.labels) == (NO_CUE, ("harmless_request",))
    assert found(helping, asked=LOOKALIKE.text(), blind=True).step == 2


def test_a_reasoning_that_cannot_be_read_is_not_free_of_cues() -> None:
    mangled = f"{written(HARMFUL, Kind.RESTATE)} it is a thing of beauty . {written(HARMFUL, Kind.TRIGGER)}"
    assert found(mangled).step == CANNOT_TELL
    assert found(f"{mangled} {written(HARMFUL, Kind.CUE)}").step == 4


def test_it_agrees_with_the_grammars_own_automaton_on_every_trace_of_the_process() -> None:
    rng = random.Random(7)
    steps = set()
    for _ in range(200):
        trace = " ".join(write_trace(HARMFUL, ProcessConfig(), rng).reasoning)
        expected = first_cue(split_sentences(trace), world=WORLD)
        cue = found(trace)
        assert cue.step == expected
        steps.add(expected)
        if expected:
            assert trace[cue.char :].startswith(split_sentences(trace)[expected - 1])
    assert len(steps) > 3
