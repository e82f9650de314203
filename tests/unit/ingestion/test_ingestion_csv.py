"""CSV becomes rows, line breaks in cells included; damaged rows are set aside one by one."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.kit.errors import SetupError


def read(folder: Path, content: bytes, name: str = "rows.csv", **options: object) -> list[Row | BadRow]:
    path = folder / name
    path.write_bytes(content)
    return list(sources.create("csv", **{"path": str(path), "category": "benign", **options}))


def outline(rows: list[Row | BadRow]) -> list[tuple[str, str]]:
    """(last part of the place, text or reason) of each row."""
    return [
        (row.where.rpartition(":")[2], row.reason if isinstance(row, BadRow) else row.text.reveal()) for row in rows
    ]


def test_quoted_line_breaks_marks_and_blank_lines_are_read_as_spreadsheets_write_them(tmp_path: Path) -> None:
    content = '\ufeffid,prompt\r\n1,"two\nlines, ""quoted"""\r\n\r\n2,plain\r\n'.encode()
    assert outline(read(tmp_path, content)) == [("2", 'two\nlines, "quoted"'), ("5", "plain")]
    assert outline(read(tmp_path, gzip.compress(content), "rows.csv.gz"))[1] == ("5", "plain")


def test_a_device_and_another_delimiter_are_named_for_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no plain file"):
        list(sources.create("csv", path="/dev/null", category="benign"))
    with pytest.raises(SetupError, match="if ';' separates them, set `delimiter`"):
        read(tmp_path, b"id;prompt\n1;how\n")


def test_another_delimiter_is_an_option(tmp_path: Path) -> None:
    assert outline(read(tmp_path, b"id\tprompt\n1\ta,b\n", delimiter="\t")) == [("2", "a,b")]
    with pytest.raises(SetupError, match="delimiter"):
        read(tmp_path, b"", delimiter="::")


def test_each_damaged_row_is_set_aside_and_the_rest_is_read(tmp_path: Path) -> None:
    content = b'id,prompt\n1,a\n2,b,c\n3,caf\xe9\n4,"x"y\n5,ok\n'
    assert outline(read(tmp_path, content)) == [
        ("2", "a"),
        ("3", "wrong_columns"),
        ("4", "not_utf8"),
        ("5", "not_csv"),
        ("6", "ok"),
    ]
    (bad,) = [row for row in read(tmp_path, content) if isinstance(row, BadRow) and row.reason == "not_utf8"]
    assert f"offset {content.index(0xE9)} " in bad.detail


def test_huge_lines_and_unclosed_quotes_cost_rows_but_not_the_file(tmp_path: Path) -> None:
    huge = b"id,prompt\n1,a\n2," + b"x" * (10 << 20) + b"\n3,c\n"
    assert outline(read(tmp_path, huge)) == [("2", "a"), ("3", "too_long"), ("4", "c")]
    unclosed = b'id,prompt\n1,"a\n2,b\n'
    assert outline(read(tmp_path, unclosed)) == [("2", "not_csv")]
    cell = b'id,prompt\n1,"' + b"y" * 200_000 + b'"\n2,b\n'
    assert outline(read(tmp_path, cell)) == [("2", "too_long"), ("3", "b")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no rows"),
        (b"id,prompt\n", "holds no rows"),
        (b"id,promtp\n1,a\n", "which column holds the prompt"),
        (b"prompt,prompt\n1,a\n", "two columns are named 'prompt'"),
        (b'"prompt\n1,a\n', "the header is unreadable"),
        (b"PAR1....", "is Parquet"),
        (b"prompt,id\rone,1\rtwo,2\r", "rows.csv:1: the header is unreadable: a lone carriage return"),
    ],
)
def test_a_file_that_cannot_work_says_what_to_change(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(SetupError) as error:
        read(tmp_path, content)
    assert "rows.csv" in str(error.value)
    assert expected in str(error.value)


@given(st.binary(max_size=300) | st.text(alphabet='",\n\rab\0', max_size=100).map(str.encode))
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    problem = ""
    try:
        rows = read(tmp_path_factory.getbasetemp(), b"prompt,x\n" + content, "hostile.csv")
    except SetupError as error:
        problem = str(error)
        rows = []
    assert rows or "hostile.csv" in problem
    assert all(isinstance(row, Row | BadRow) for row in rows)


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=8))
def test_what_a_csv_writer_wrote_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["prompt", "n"], *([text, "1"] for text in texts)])
    rows = read(tmp_path_factory.getbasetemp(), buffer.getvalue().encode(), "round.csv")
    assert [row.text.reveal() for row in rows if isinstance(row, Row)] == texts
