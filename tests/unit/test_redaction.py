"""Text that must not leak shows a digest wherever it is printed, and keeps its words whatever it is made from."""

from __future__ import annotations

import copy
import pickle

import pytest

from tracemend.redaction import Text

WORDS = "words that stay out of logs"


@pytest.mark.parametrize("shown", [str, repr, "{}".format, "{!r}".format, "{:>80}".format, lambda text: f"{text}"])
def test_what_is_printed_is_a_digest(shown) -> None:  # type: ignore[no-untyped-def]
    assert WORDS not in shown(Text(WORDS))
    assert Text(WORDS).label() in shown(Text(WORDS))


def test_equal_words_have_one_label_and_others_another() -> None:
    assert Text(WORDS).label() == Text(WORDS).label() != Text(f"{WORDS}.").label()


@pytest.mark.parametrize("again", [Text, copy.deepcopy, lambda text: pickle.loads(pickle.dumps(text))])
def test_the_words_survive_wrapping_and_copying(again) -> None:  # type: ignore[no-untyped-def]
    made = again(Text(WORDS))
    assert (type(made), made.reveal()) == (Text, WORDS)


def test_half_a_character_has_a_label_too() -> None:
    assert Text("\ud800").label().startswith("<text ")
