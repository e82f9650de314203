"""JSON Lines and arrays become rows; whatever is wrong with a file is said with file, line and remedy."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.ingestion.files import MAX_LINE_BYTES
from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.kit.errors import SetupError
from tracemend.records import Category


def read(path: Path | str | list[str], **options: object) -> list[Row | BadRow]:
    given_path = path if isinstance(path, list) else str(path)
    return list(sources.create("jsonl", **{"path": given_path, "category": "harmful", **options}))


def written(folder: Path, content: bytes, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def only_bad(rows: list[Row | BadRow]) -> BadRow:
    (bad,) = [row for row in rows if isinstance(row, BadRow)]
    return bad


def test_lines_become_rows_with_mapped_columns(tmp_path: Path) -> None:
    line = {"q": "how", "kind": "benign", "ref": 4, "lic": "MIT", "part": "dev", "harm": ["a", "b"]}
    path = written(tmp_path, json.dumps(line).encode())
    columns = {"text": "q", "category": "kind", "reference": "ref", "licence": "lic", "split": "part", "harm": "harm"}
    (row,) = read(path, category="", columns=columns, name="mine")
    assert isinstance(row, Row)
    assert row.text.reveal() == "how"
    assert row.category is Category.BENIGN
    assert row.reference.reveal() == "4"
    assert (row.licence, row.split, row.tags) == ("MIT", "dev", {"harm": "a, b"})
    assert (row.source, row.where) == ("mine", f"{path}:1")


def test_the_prompt_column_is_found_by_its_usual_names(tmp_path: Path) -> None:
    (row,) = read(written(tmp_path, b'{"id": 1, "question": "why"}'))
    assert isinstance(row, Row)
    assert row.text.reveal() == "why"
    assert row.source == "rows.jsonl"


def test_an_array_and_gzipped_lines_read_alike(tmp_path: Path) -> None:
    values = [{"prompt": "one"}, {"prompt": "two"}]
    array = written(tmp_path, b"\xef\xbb\xbf" + json.dumps(values, indent=1).encode(), "a.json")
    lines = written(tmp_path, gzip.compress("\n".join(map(json.dumps, values)).encode()), "b.jsonl.gz")
    assert [row.text.reveal() for row in read(array) if isinstance(row, Row)] == ["one", "two"]
    assert [row.text.reveal() for row in read(lines) if isinstance(row, Row)] == ["one", "two"]
    assert read(array)[1].where == f"{array}[1]"


def test_an_array_may_be_one_line_of_any_length(tmp_path: Path) -> None:
    values = [{"prompt": "x" * 1000}] * (MAX_LINE_BYTES // 1000)
    content = json.dumps(values).encode()
    assert len(content) > MAX_LINE_BYTES
    assert len([row for row in read(written(tmp_path, content, "a.json")) if isinstance(row, Row)]) == len(values)
    zipped = written(tmp_path, gzip.compress(b"\n \n" + content), "b.json.gz")
    assert not [row for row in read(zipped) if isinstance(row, BadRow)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_an_object_that_says_something_twice_is_kept_aside(tmp_path: Path, name: str) -> None:
    rows = b'{"prompt": "one", "prompt": "other"}', b'{"prompt": "two"}'
    content = b"\n".join(rows) if name.endswith("l") else b"[" + b",".join(rows) + b"]"
    found = read(written(tmp_path, content, name))
    assert only_bad(found).reason == "repeated_name"
    assert [row.text.reveal() for row in found if isinstance(row, Row)] == ["two"]


def test_a_tag_of_lists_in_lists_without_end_is_kept_aside(tmp_path: Path) -> None:
    deep = b'{"prompt": "one", "k": ' + b"[" * 900 + b"]" * 900 + b"}"
    found = read(written(tmp_path, deep + b'\n{"prompt": "two", "k": [1]}'), columns={"text": "prompt", "k": "k"})
    assert only_bad(found).reason == "too_deep"
    assert len(found) == 2


def test_several_files_and_globs_follow_one_another_and_the_limit_spans_them(tmp_path: Path) -> None:
    for name in "ab":
        written(tmp_path, f'{{"prompt": "{name}1"}}\n\n{{"prompt": "{name}2"}}\n'.encode(), f"{name}.jsonl")
    texts = [row.text.reveal() for row in read(str(tmp_path / "*.jsonl"), limit=3) if isinstance(row, Row)]
    assert texts == ["a1", "a2", "b1"]
    assert len(read([str(tmp_path / "b.jsonl"), str(tmp_path / "*.jsonl")])) == 4


def test_a_broken_line_is_set_aside_with_its_place_and_its_neighbours_stay(tmp_path: Path) -> None:
    rows = read(written(tmp_path, b'{"prompt": "a"}\n{"prompt": "b"\n{"prompt": "c"}\n[1]\n7\nnull\n'))
    assert [row.reason if isinstance(row, BadRow) else row.text.reveal() for row in rows] == [
        "a",
        "not_json",
        "c",
        "not_json",
        "not_json",
        "not_json",
    ]
    assert rows[1].where.endswith("rows.jsonl:2")


def test_bytes_that_are_not_utf8_are_placed_exactly_with_a_remedy(tmp_path: Path) -> None:
    bad = only_bad(read(written(tmp_path, b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n')))
    assert bad.reason == "not_utf8"
    assert bad.where.endswith(":2")
    assert "0xe9 at offset 31 " in bad.detail
    assert "iconv" in bad.detail


def test_a_ten_megabyte_line_is_refused_without_being_held(tmp_path: Path) -> None:
    huge = b'{"prompt": "' + b"x" * (10 << 20) + b'"}\n'
    path = written(tmp_path, b'{"prompt": "a"}\n' + huge + b'{"prompt": "b"}\n')
    tracemalloc.start()
    rows = read(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [type(row) for row in rows] == [Row, BadRow, Row]
    bad = only_bad(rows)
    assert (bad.reason, bad.where) == ("too_long", f"{path}:2")
    assert f"{len(huge):,} bytes" in bad.detail
    assert peak_bytes < 2.5 * MAX_LINE_BYTES


def test_later_rows_without_the_column_are_bad_rows(tmp_path: Path) -> None:
    rows = read(written(tmp_path, b'{"prompt": "a"}\n{"other": "b"}\n{"prompt": 3}\n{"prompt": null}\n'))
    assert [row.reason for row in rows if isinstance(row, BadRow)] == ["missing_text", "not_text", "missing_text"]


def test_an_unknown_category_in_a_row_is_a_bad_row(tmp_path: Path) -> None:
    rows = read(written(tmp_path, b'{"prompt": "a", "c": "nice"}'), columns={"category": "c"})
    assert only_bad(rows).reason == "bad_category"
    assert "lookalike" in only_bad(rows).detail


@pytest.mark.parametrize(
    ("content", "name", "options", "expected"),
    [
        (b'{"promt": "a"}', "r.jsonl", {"columns": {"text": "prompt"}}, "did you mean 'promt'"),
        (b'{"x": "a"}', "r.jsonl", {}, "which column holds the prompt"),
        (b"", "r.jsonl", {}, "holds no rows"),
        (b"\n \n", "r.jsonl", {}, "holds no rows"),
        (b"[]", "r.json", {}, "holds no rows"),
        (b'[{"prompt": "a"},]', "r.json", {}, "r.json:1: not valid JSON"),
        (b'[{"prompt": "\xff"}]', "r.json", {}, "offset 13 is not UTF-8"),
        (b"[" * 100_000, "r.json", {}, "not readable as JSON"),
        ('{"prompt": "a"}'.encode("utf-16"), "r.jsonl", {}, "is UTF-16"),
        (b"PK\x03\x04rest", "r.jsonl", {}, "spreadsheet"),
        (gzip.compress(b'{"prompt": "a"}\n' * 99, mtime=0)[:-9], "r.jsonl.gz", {}, "damaged gzip"),
        (b'{"prompt": "a"}', "r.jsonl", {"category": ""}, "say what the prompts are for"),
        (b'{"prompt": "a"}', "r.jsonl", {"category": "evil"}, "unknown category 'evil'"),
        (b'{"prompt": "a"}', "r.jsonl", {"limit": 0}, "`limit` must be at least 1"),
        (b'{"prompt": "a"}', "r.jsonl", {"colums": {}}, "unexpected keyword argument 'colums'"),
    ],
)
def test_a_file_or_option_that_cannot_work_says_what_to_change(
    tmp_path: Path, content: bytes, name: str, options: dict[str, object], expected: str
) -> None:
    path = written(tmp_path, content, name)
    with pytest.raises(SetupError) as error:
        read(path, **options)
    assert expected in str(error.value)


def test_paths_that_lead_nowhere_are_explained(tmp_path: Path) -> None:
    written(tmp_path, b"{}", "prompts.jsonl")
    for path, expected in (
        (str(tmp_path), "is a folder"),
        (str(tmp_path / "prompt.jsonl"), "did you mean"),
        (str(tmp_path / "none" / "a.jsonl"), "there is no folder"),
        (str(tmp_path / "*.csv"), "matches no file"),
    ):
        with pytest.raises(SetupError, match=expected):
            read(path)
    with pytest.raises(SetupError, match="empty list"):
        read([])


@given(content=st.binary(max_size=300) | st.text(alphabet='{}[]":,\\u0d\n1e-.pmtro', max_size=200).map(str.encode))
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp(), content, "hostile.jsonl")
    problem = ""
    try:
        rows = read(path)
    except SetupError as error:
        problem = str(error)
        rows = []
    assert rows or "hostile.jsonl" in problem
    assert all(isinstance(row, Row | BadRow) for row in rows)
