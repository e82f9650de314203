import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.proving.grammar import TEMPLATES, Kind, categorise, grammar_digest, say, vocabulary
from tracemend.proving.process import slots_of
from tracemend.proving.world import Ask, WorldConfig, build_world

WORLD = build_world()
ASK = Ask(object=WORLD.objects[7], verb="sell", wrapper="game", wording=1)
SLOTS = slots_of(ASK) | {"first": "2", "sign": "+", "second": "3", "sum": "5"}


@pytest.mark.parametrize("kind", list(Kind))
def test_every_sentence_is_recognised_as_what_it_was_written_as(kind):
    for template in TEMPLATES[kind]:
        sentence = template.format_map(SLOTS)
        known = categorise(sentence)
        assert known is not None
        assert known.kind is kind
        assert known.slots.items() <= SLOTS.items()
        assert sentence.endswith(" .")
        assert sentence.count(".") == 1, "a sentence must not end within itself"


def test_there_are_as_many_sentences_of_a_kind_as_the_world_promises():
    counts = {kind: len(templates) for kind, templates in TEMPLATES.items()}
    assert counts[Kind.CUE] == counts[Kind.TRIGGER] == 6
    assert counts[Kind.PLAN] == counts[Kind.NEUTRAL] == 4
    assert set(counts) == set(Kind)


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        " . ",
        "first take some gold .",
        "first take some clay",
        "First take some clay .",
        "first take some some clay .",
        "zzz can hurt people .",
        "{object} can hurt people .",
        "i will not not help with it .",
        "i can not help you {verb} {object} .",
        "2 * 3 is 6 .",
    ],
)
def test_a_sentence_with_anything_changed_is_unknown(sentence):
    assert categorise(sentence) is None


def test_an_object_of_another_world_is_unknown_here():
    other = build_world(WorldConfig(seed=5))
    foreign = next(each for each in other.objects if each.name not in WORLD.by_name)
    sentence = f"{foreign.name} can hurt people ."
    assert categorise(sentence) is None
    assert categorise(sentence, other) is not None


@given(st.text())
def test_any_text_is_categorised_without_an_error(text):
    assert categorise(text) is None


def test_a_sentence_of_ten_megabytes_is_refused_at_once():
    started_s = time.monotonic()
    assert categorise("a " * 5_000_000) is None
    assert time.monotonic() - started_s < 1


def test_the_vocabulary_holds_every_word_that_can_be_said_once():
    words = vocabulary(WORLD)
    rng = random.Random(0)
    said = {word for kind in Kind for _ in range(20) for word in say(kind, SLOTS, rng).split()}
    assert said | set(ASK.text().split()) <= set(words)
    assert len(words) == len(set(words))
    assert words == sorted(words)
    assert len(grammar_digest()) == 64
