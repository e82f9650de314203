"""A run file's `prompts:` and `ingestion:` sections are checked when they are read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tracemend.ingestion.settings import IngestionSettings, PromptsSettings


def test_options_stand_beside_the_source_and_enter_the_digest() -> None:
    one = PromptsSettings.model_validate({"source": "jsonl", "path": "a.jsonl", "category": "benign"})
    other = PromptsSettings.model_validate({"source": "jsonl", "path": "b.jsonl", "category": "benign"})
    assert one.options == {"path": "a.jsonl", "category": "benign"}
    assert one.digest() != other.digest()


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"source": "jsonn"}, "did you mean 'jsonl'"),
        ({"source": "jsonl", "path": "a", "colums": {}}, "no option 'colums'; did you mean 'columns'"),
        ({"source": "jsonl"}, "needs `path`"),
        ({"path": "a"}, "Field required"),
        ({"source": "jsonl", "path": 3}, "option 'path': Input should be"),
        ({"source": "jsonl", "path": ["a", "b"], "limit": "ten"}, "option 'limit': Input should be a valid integer"),
        ({"source": "jsonl", "path": "a", "columns": ["text"]}, "option 'columns'"),
    ],
)
def test_a_mistaken_source_names_the_nearest_right_word(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        PromptsSettings.model_validate(section)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"filters": {"near_duplicate": {}}}, "did you mean 'near_duplicates'"),
        ({"filters": {"near_duplicates": {"treshold": 0.9}}}, "did you mean 'threshold'"),
        ({"filters": {"near_duplicates": {"threshold": "high"}}}, "option 'threshold': Input should be a valid number"),
        ({"max_chars": 0}, "at least 1"),
        ({"max_char": 10}, "max_char"),
    ],
)
def test_a_mistaken_filter_names_the_nearest_right_word(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        IngestionSettings.model_validate(section)


def test_filters_keep_their_order_and_defaults_unless_named() -> None:
    settings = IngestionSettings(
        filters={"length": {"min_words": 2}, "near_duplicates": False, "decontamination": True}
    )
    assert settings.active_filters() == {"exact_duplicates": {}, "decontamination": {}, "length": {"min_words": 2}}
    assert list(IngestionSettings().active_filters()) == ["exact_duplicates", "near_duplicates", "decontamination"]
