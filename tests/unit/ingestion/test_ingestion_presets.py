"""The public sets are read as their copies have them; without data, a preset says where to put it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.needs import needs_data

from tracemend.ingestion.presets import PRESETS
from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.ingestion.service import Admitted, Refused, ingest
from tracemend.ingestion.settings import IngestionSettings
from tracemend.kit.errors import SetupError
from tracemend.records import Category

NUM_ROWS = {
    "strongreject": 308,
    "strongreject_small": 58,
    "harmbench": 398,
    "advbench": 514,
    "simple_safety_tests": 88,
    "multijail": 313,
    "derta": 791,
    "coconot": 394,
    "xstest_safe": 250,
    "xstest_unsafe": 200,
    "star1": 976,
    "gsm8k": 1319,
    "math500": 500,
    "humaneval": 164,
    "mbpp": 427,
    "truthfulqa": 817,
}


def read(name: str, data: Path, **options: object) -> list[Row]:
    rows = list(sources.create("preset", name=name, data=str(data), **options))
    assert not [row.reason for row in rows if isinstance(row, BadRow)]
    return [row for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_row_of_a_public_set_is_admitted(name: str) -> None:
    rows = read(name, needs_data())
    assert len(rows) == NUM_ROWS[name]
    assert {row.source for row in rows} == {name}
    assert all(row.licence for row in rows)
    intake = ingest(rows, settings=IngestionSettings())
    assert len(list(intake)) == len(rows)
    assert intake.counts.num_refused == 0, intake.counts.refused


def test_answers_are_extracted_as_the_sets_write_them() -> None:
    data = needs_data()
    assert all(row.reference.reveal().lstrip("-").replace(".", "").isdigit() for row in read("gsm8k", data))
    assert all(
        row.reference.reveal().endswith(f"check({row.tags['entry_point']})\n") for row in read("humaneval", data)
    )
    assert all("assert" in row.reference.reveal() and "assert" in row.text.reveal() for row in read("mbpp", data))
    assert {row.category for row in read("xstest_safe", data)} == {Category.LOOKALIKE}


def test_contextual_behaviours_carry_their_context() -> None:
    rows = read("harmbench", needs_data(), subset="contextual")
    assert len(rows) == 99
    assert all("\n\n---\n\n" in row.text.reveal() for row in rows)


def test_subsets_languages_and_limits_choose_rows() -> None:
    data = needs_data()
    attacks = Counter(row.tags["attack"] for row in read("derta", data, subset=["codeattack", "selfcipher"]))
    assert attacks == {"codeattack": 198, "selfcipher": 197}
    english, korean = read("multijail", data, limit=5), read("multijail", data, language="ko", limit=5)
    assert len(english) == len(korean) == 5
    assert {row.tags["language"] for row in korean} == {"ko"}
    assert all(one.text != other.text for one, other in zip(english, korean, strict=True))


def test_overlap_between_public_sets_is_found_and_named() -> None:
    """StrongREJECT took prompts from AdvBench; STAR-1 was decontaminated against StrongREJECT (section 4.2 [R])."""
    data, settings = needs_data(), IngestionSettings()
    admitted = ingest(read("strongreject", data), settings=settings)
    evaluated = [item.prompt for item in admitted if isinstance(item, Admitted)]

    def repeats(name: str) -> list[str]:
        items = ingest(read(name, data), settings=settings, benchmarks=evaluated)
        return [item.matched for item in items if isinstance(item, Refused)]

    assert len(repeats("advbench")) >= 20
    assert set(repeats("advbench")) <= {prompt.id for prompt in evaluated}
    assert repeats("star1") == []


def small(folder: Path) -> Path:
    """A made-up copy of two sets, directly in the data folder."""
    lines = [{"question": "2 + 2 ?", "answer": "so #### 1,004"}, {"question": "2 + 3 ?", "answer": "no mark"}]
    (folder / "gsm8k_test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "xstest_prompts.csv").write_text("prompt,type,label\na,homonyms,safe\nb,contrast_homonyms,unsafe\n")
    return folder


def test_a_preset_reads_a_copy_that_lies_directly_in_the_data_folder(tmp_path: Path) -> None:
    first, second = read("gsm8k", small(tmp_path))
    assert (first.reference.reveal(), second.reference.reveal()) == ("1004", "")
    assert first.tags == {"checker": "numeric"}
    (safe,) = read("xstest_safe", tmp_path)
    assert (safe.text.reveal(), safe.tags) == ("a", {"type": "homonyms", "label": "safe"})


def test_wrong_names_and_missing_data_say_what_to_do(tmp_path: Path) -> None:
    data = small(tmp_path)
    (tmp_path / "harmful_behaviors.csv").write_text("wrong,target\na,b\n")
    for name, options, expected in (
        ("gms8k", {}, "did you mean 'gsm8k'"),
        ("strongreject", {}, "put strongreject_dataset.csv in"),
        ("gsm8k", {"language": "fr"}, "is in one language"),
        ("gsm8k", {"subset": "hard"}, "has no subsets"),
        ("xstest_safe", {"subset": "homonym"}, "did you mean 'homonyms'"),
        ("gsm8k", {"limit": 0}, "at least 1"),
        ("advbench", {}, "not the file of preset 'advbench'"),
    ):
        with pytest.raises(SetupError) as error:
            read(name, data, **options)
        assert expected in str(error.value)
