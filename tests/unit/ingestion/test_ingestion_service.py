"""Every row ends as one admitted prompt or one refused row, in order, and always the same way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.ingestion.rows import BadRow, Row
from tracemend.ingestion.service import Admitted, Refused, ingest, read
from tracemend.ingestion.settings import IngestionSettings, PromptsSettings
from tracemend.kit.errors import SetupError
from tracemend.records import Category
from tracemend.redaction import Text

NO_FILTERS = IngestionSettings(filters={"exact_duplicates": False, "near_duplicates": False, "decontamination": False})


def row(text: str, *, category: Category = Category.HARMFUL, reference: str = "") -> Row:
    return Row(text=Text(text), category=category, source="set", where="set:1", reference=Text(reference))


def taken(rows: Iterable[Row | BadRow], settings: IngestionSettings = NO_FILTERS) -> list[Admitted | Refused]:
    return list(ingest(rows, settings=settings))


def reasons(items: list[Admitted | Refused]) -> list[str]:
    return [item.reason if isinstance(item, Refused) else "" for item in items]


def test_a_prompt_carries_what_its_row_says() -> None:
    source = Row(
        text=Text("2 + 2"),
        category=Category.REASONING,
        source="sums",
        where="sums:3",
        licence="MIT",
        split="dev",
        tags={"level": "1"},
        reference=Text("4"),
    )
    (item,) = taken([source])
    assert isinstance(item, Admitted)
    prompt = item.prompt
    assert (prompt.text.reveal(), prompt.reference.reveal(), prompt.category) == ("2 + 2", "4", Category.REASONING)
    assert (prompt.source, prompt.licence, prompt.split, prompt.tags) == ("sums", "MIT", "dev", {"level": "1"})


def test_ids_depend_on_content_and_occurrence_only() -> None:
    first, again, other = taken([row("a"), row("a"), row("a", category=Category.BENIGN)])
    (alone,) = taken([Row(text=Text("a"), category=Category.HARMFUL, source="elsewhere", where="x:9", split="test")])
    ids = [item.prompt.id for item in (first, again, other, alone) if isinstance(item, Admitted)]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (row(" \n\t"), "empty"),
        (row("x" * 101), "too_long"),
        (row("a\0b"), "nul"),
        (row("a\ud800b"), "bad_unicode"),
        (row("2 + 2", category=Category.REASONING), "missing_reference"),
        (row("2 + 2", category=Category.REASONING, reference="\0"), "nul"),
        (row("x" * 100), ""),
        (row("line\r\nbreak\ttab 文字 🙂"), ""),
    ],
)
def test_rows_that_no_run_can_use_are_refused_with_their_reason(candidate: Row, reason: str) -> None:
    settings = NO_FILTERS.model_copy(update={"max_chars": 100})
    assert reasons(taken([candidate], settings)) == [reason]


def test_control_characters_are_kept_and_counted() -> None:
    intake = ingest([row("a\x1bb"), row("a\nb")], settings=NO_FILTERS)
    assert reasons(list(intake)) == ["", ""]
    assert intake.counts.num_control_chars == 1


def test_bad_rows_keep_their_place_and_reason() -> None:
    bad = BadRow(where="f.jsonl:2", source="f", reason="not_json", detail="column 3")
    items = taken([row("a"), bad, row("b")])
    assert [item.row for item in items] == [1, 2, 3]
    refused = items[1]
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.where, refused.source, refused.detail) == ("not_json", "f.jsonl:2", "f", "column 3")


def test_a_refused_row_shows_its_text_to_nobody_who_does_not_ask() -> None:
    (item,) = taken([row("secret words\0")])
    assert isinstance(item, Refused)
    assert "secret" not in repr(item)
    assert item.text.reveal() == "secret words\0"


texts = st.text(alphabet="ab \0\ud800é", max_size=6)
rows = st.lists(
    st.builds(row, texts, category=st.sampled_from(Category), reference=st.sampled_from(["", "1"]))
    | st.builds(
        BadRow, where=st.just("w"), source=st.just("s"), reason=st.sampled_from(["x", "y"]), detail=st.just("")
    ),
    max_size=20,
)


@given(rows)
def test_received_rows_are_admitted_plus_refused_and_repeating_changes_nothing(given_rows: list[Row | BadRow]) -> None:
    settings = IngestionSettings()
    intake = ingest(given_rows, settings=settings)
    items = list(intake)
    counts = intake.counts
    assert counts.num_rows == len(given_rows) == counts.num_admitted + counts.num_refused
    assert [item.row for item in items] == list(range(1, len(given_rows) + 1))
    assert items == list(ingest(given_rows, settings=settings))
    ids = [item.prompt.id for item in items if isinstance(item, Admitted)]
    assert len(ids) == len(set(ids)) == counts.num_admitted


def test_an_intake_asks_for_rows_only_as_it_is_read() -> None:
    asked = []

    def source() -> Iterable[Row]:
        for number in range(3):
            asked.append(number)
            yield row(f"prompt {number}")

    intake = iter(ingest(source(), settings=IngestionSettings()))
    next(intake)
    assert asked == [0]


def test_sources_follow_one_another_and_are_all_opened_before_the_first_row(tmp_path: Path) -> None:
    good = tmp_path / "a.jsonl"
    good.write_text('{"prompt": "a"}\n{"prompt": "b"}')
    item = PromptsSettings.model_validate({"source": "jsonl", "path": str(good), "category": "benign"})
    gone = PromptsSettings.model_validate({"source": "jsonl", "path": str(tmp_path / "gone"), "category": "benign"})
    assert len(list(read([item, item]))) == 4
    with pytest.raises(SetupError, match="does not exist"):
        read([item, gone])
