"""Duplicates and evaluation prompts are kept out and named; different requests in one wrapper are kept."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.builders import prompt

from tracemend.ingestion.rows import Row
from tracemend.ingestion.service import Admitted, Refused, ingest
from tracemend.ingestion.settings import IngestionSettings
from tracemend.ingestion.similar import NearIndex, num_changed
from tracemend.ingestion.words import normalised, tokens
from tracemend.kit.errors import SetupError
from tracemend.records import Category, Prompt
from tracemend.redaction import Text

WRAPPER = " ".join(f"once word{chr(97 + i % 26)}{chr(97 + i // 26)} upon" for i in range(60))
LONG = "please explain to a curious visitor how the old clock in the tower of the town hall was repaired last summer"


def passed(*texts: str, benchmarks: tuple[Prompt, ...] = (), **filters: dict[str, Any] | bool) -> list[str]:
    """`""` for an admitted text, else the reason and what it matched."""
    rows = [Row(text=Text(text), category=Category.HARMFUL, source="s", where="s:1") for text in texts]
    items = ingest(rows, settings=IngestionSettings(filters=filters), benchmarks=benchmarks)
    return [f"{item.reason} {item.matched}" if isinstance(item, Refused) else "" for item in items]


def test_case_width_and_spacing_do_not_make_another_prompt() -> None:
    assert passed("Open the ﬁle", "open  THE\nfile ", "open the files") == ["", "exact_duplicate row:1", ""]


def test_a_repeated_text_of_another_category_is_refused_with_the_contradiction() -> None:
    rows = [Row(text=Text("a"), category=kind, source="s", where="s:1") for kind in (Category.BENIGN, Category.HARMFUL)]
    refused = list(ingest(rows, settings=IngestionSettings()))[1]
    assert isinstance(refused, Refused)
    assert "that one is 'benign', this one 'harmful'" in refused.detail


def test_a_switched_off_filter_keeps_its_rows() -> None:
    assert passed("a b c", "a b c", exact_duplicates=False, near_duplicates=False) == ["", ""]


@pytest.mark.parametrize(
    "variant",
    [
        LONG + " .",
        LONG.title(),
        "kindly " + LONG,
        LONG.replace("repaired", "repairing"),
        LONG.replace("visitor", "visitors"),
    ],
)
def test_the_same_request_in_almost_the_same_words_is_refused_and_its_row_named(variant: str) -> None:
    assert passed("something else entirely", LONG, variant)[2].endswith("duplicate row:2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"{WRAPPER} how is glimmerite made", f"{WRAPPER} how is zorbine made"),
        (f"{WRAPPER} how is glimmerite made", f"{WRAPPER} how is glimmerite sold"),
        (f"{WRAPPER} what is 12 + 30", f"{WRAPPER} what is 12 + 31"),
        (f"{WRAPPER} what is 5 + 3", f"{WRAPPER} what is 5 - 3"),
        ("what is 2 + 2 + 2 ?", "what is 2 + 2 ?"),
        ("how do i make glimmerite ?", "how do i make zorbine ?"),
        (f"{WRAPPER} name a bird", f"{WRAPPER} explain how to build a small raft"),
    ],
)
def test_another_object_verb_or_number_in_one_wrapper_is_another_prompt(one: str, other: str) -> None:
    assert passed(one, other) == ["", ""]


def test_tasks_with_different_answers_are_no_duplicates() -> None:
    task = f"{LONG} with 7 gears and 9 springs"
    swapped = task.replace("7", "#").replace("9", "7").replace("#", "9")
    rows = [
        Row(text=Text(text), category=Category.REASONING, source="s", where="s:1", reference=Text(reference))
        for text, reference in ((task, "7"), (task + " please", "9"), (task + " now", "7"), (swapped, "2"))
    ]
    items = list(ingest(rows, settings=IngestionSettings(filters={"near_duplicates": {"threshold": 0.6}})))
    assert [isinstance(item, Admitted) for item in items] == [True, True, False, True]


def test_refused_rows_make_no_duplicates() -> None:
    evaluated = prompt(LONG)
    results = passed(LONG, LONG, benchmarks=(evaluated,))
    assert results == [f"contaminated {evaluated.id}"] * 2


def test_a_row_that_repeats_an_evaluation_prompt_is_refused_and_names_it() -> None:
    other, evaluated = prompt("something else entirely"), prompt(LONG)
    variants = (LONG.upper(), f"{WRAPPER} {LONG}", "kindly " + LONG, LONG[:60])
    assert passed(*variants, benchmarks=(other, evaluated)) == [f"contaminated {evaluated.id}"] * 4


@pytest.mark.parametrize("short", ["how is zorbine made", "what is 12 + 30", "name a bird"])
def test_a_row_that_holds_a_short_evaluation_prompt_whole_is_refused(short: str) -> None:
    evaluated = prompt(short)
    rows = (f"in a play, {short.upper()}?", f"{WRAPPER} {short} {LONG}", f"{short}, and why")
    assert passed(*rows, benchmarks=(prompt(LONG), evaluated)) == [f"contaminated {evaluated.id}"] * 3


def test_a_row_that_holds_a_short_evaluation_prompt_in_part_or_in_pieces_is_kept() -> None:
    evaluated = (prompt("how is zorbine made"), prompt("what is 12 + 30"))
    rows = (
        "in a play, how is zorbine sold",
        "zorbine made how is it",
        "what is 12 + 31 minus 30",
        "made is zorbine how",
    )
    assert passed(*rows, benchmarks=evaluated) == [""] * 4


def test_the_longest_of_several_short_evaluation_prompts_is_named() -> None:
    evaluated = (prompt("a bird that sings"), prompt("name a bird that sings"))
    assert passed("please name a bird that sings today", benchmarks=evaluated) == [f"contaminated {evaluated[1].id}"]


def test_very_short_evaluation_prompts_are_refused_only_where_a_row_equals_them() -> None:
    evaluated = (prompt("explain this"),)
    assert passed("explain this to a child", "Explain  this", benchmarks=evaluated)[0] == ""
    assert passed("Explain  this", benchmarks=evaluated) == [f"contaminated {evaluated[0].id}"]
    strict = {"min_words": 2}
    assert passed("explain this to a child", benchmarks=evaluated, decontamination=strict) != [""]


def test_a_short_evaluation_prompt_that_many_others_hold_is_a_wrapper() -> None:
    held = tuple(prompt(f"tell me a story about {thing} and the moon") for thing in ("kelm", "dorv", "quast"))
    evaluated = (*held, prompt("tell me a story"))
    assert passed("tell me a story of the sea", benchmarks=evaluated) == [""]
    assert passed("tell me a story of the sea", benchmarks=evaluated, decontamination={"max_sharing": 4}) != [""]


def test_sharing_a_wrapper_with_evaluation_prompts_is_no_contamination() -> None:
    evaluated = tuple(prompt(f"{WRAPPER} how is {thing} made today") for thing in ("kelm", "dorv", "zorbine", "quast"))
    assert passed(f"{WRAPPER} how is glimmerite made today", benchmarks=evaluated) == [""]
    strict = {"min_overlap": 0.0, "max_sharing": len(evaluated)}
    assert passed(f"{WRAPPER} how is glimmerite made today", benchmarks=evaluated, decontamination=strict) != [""]


def test_any_shared_sequence_can_be_made_to_count() -> None:
    words = LONG.split()
    touching = "a quite different text that mentions in passing " + " ".join(words[4:12])
    evaluated = (prompt(LONG),)
    assert passed(touching, benchmarks=evaluated) == [""]
    assert passed(touching, benchmarks=evaluated, decontamination={"min_overlap": 0.0}) == [
        f"contaminated {evaluated[0].id}"
    ]


def test_length_counts_words_where_it_is_asked_for() -> None:
    assert passed("one", "one two", "one two three", length={"min_words": 2, "max_words": 2}) == [
        "too_short ",
        "",
        "too_long ",
    ]


@pytest.mark.parametrize(
    "filters",
    [
        {"near_duplicates": {"threshold": 1.5}},
        {"near_duplicates": {"max_changed_words": -1}},
        {"decontamination": {"ngram": 0}},
        {"decontamination": {"min_overlap": 2}},
        {"decontamination": {"min_words": 0}},
        {"length": {"min_words": 3, "max_words": 2}},
    ],
)
def test_impossible_options_are_refused_at_once(filters: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="not "):
        passed("a", **filters)


def test_near_duplicates_are_found_among_thousands_and_nothing_else_is_refused() -> None:
    draw = random.Random(7)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("lom", "nat", "rip", "sud")]
    originals = [" ".join(draw.choices(words, k=30)) for _ in range(1500)]
    index = NearIndex(threshold=0.7, max_changed_words=1)
    for key, text in enumerate(originals):
        probe = index.probe(text.split())
        assert index.find(probe) is None
        index.add(key, probe)
    for key, text in enumerate(originals):
        position = draw.randrange(1, 29)
        near = [*text.split()[:position], "extra", *text.split()[position:]]
        match = index.find(index.probe(near))
        assert match is not None, f"row {key} was missed"
        assert match.key == key
        assert match.similarity == pytest.approx(26 / 31, abs=0.07)


def test_crowds_of_similar_texts_do_not_slow_the_index_down() -> None:
    index = NearIndex(threshold=0.7, max_changed_words=1)
    crowd = [[*WRAPPER.split(), f"name{number}", f"verb{number}"] for number in range(400)]
    for key, text in enumerate(crowd):
        index.add(key, index.probe(text))
    longest = max(len(held) for held in index._tables.values() if isinstance(held, list))
    assert longest <= 64


def test_added_replaced_and_inflected_words_are_counted() -> None:
    assert num_changed(["make", "a", "kite"], ["make", "the", "kite"]) == 2
    assert num_changed(["make", "kites"], ["making", "kite"]) == 0
    assert num_changed(["make", "a", "kite"], ["make", "a", "red", "kite"]) == 1
    assert num_changed(["2", "2", "2"], ["2", "2"]) == 1
    assert num_changed(["10"], ["100"]) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What's 3.5 + 4,000?", ["what", "s", "3.5", "+", "4,000"]),
        ("f(x) = [1]", ["f", "(", "x", ")", "=", "[", "1", "]"]),
        ("今日は晴れ", ["今", "日", "は", "晴", "れ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("สวัสดี", list("สวัสดี")),
        ("", []),
    ],
)
def test_tokens_keep_what_carries_meaning(text: str, expected: list[str]) -> None:
    assert tokens(normalised(Text(text))) == expected
