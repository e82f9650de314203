from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracemend.judge.labels import read_labels
from tracemend.kit.errors import SetupError
from tracemend.records import Category, Value

ROW = {"prompt": "how ?", "response": "so .", "label": "unsafe"}


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_jsonl_rows_are_read_in_order(tmp_path: Path) -> None:
    lines = [ROW, {**ROW, "label": 0}, {**ROW, "label": True, "reasoning": "hm ."}]
    path = written(tmp_path, "labels.jsonl", "\n\n".join(json.dumps(line) for line in lines))
    rows = read_labels(path)
    assert [row.label for row in rows] == [Value.UNSAFE, Value.SAFE, Value.UNSAFE]
    assert rows[2].whole.reveal() == "hm .\n\nso ."
    assert rows[0].prompt.text.reveal() == "how ?"


def test_csv_columns_and_label_words_are_mapped(tmp_path: Path) -> None:
    content = '\ufeffq,completion,final\nhow ?,"two\nlines",1_full_compliance\n'
    rows = read_labels(
        written(tmp_path, "labels.csv", content),
        columns={"prompt": "q", "response": "completion", "label": "final"},
        labels={"1_Full_Compliance": "safe"},
        category=Category.LOOKALIKE,
    )
    assert (rows[0].response.reveal(), rows[0].label) == ("two\nlines", Value.SAFE)
    assert rows[0].prompt.category is Category.LOOKALIKE


def test_a_cell_of_a_megabyte_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "labels.csv", f"prompt,response,label\nhow ?,{'a' * 1_000_000},safe\n")
    assert len(read_labels(path)[0].response) == 1_000_000


@pytest.mark.parametrize(
    ("name", "content", "needle"),
    [
        ("a.jsonl", '{"prompt": "p"}\n', r"a\.jsonl:1: no column response, label; it has prompt"),
        ("a.jsonl", f"{json.dumps(ROW)}\n{{broken\n", r"a\.jsonl:2: .*one JSON object"),
        ("a.jsonl", "[1]\n", "not an object"),
        ("a.jsonl", json.dumps({**ROW, "label": "meh"}), "unknown label 'meh'; known: "),
        ("a.jsonl", json.dumps({**ROW, "label": "long words " * 20}), "unknown label of 219 characters"),
        ("a.jsonl", json.dumps({**ROW, "response": ["x"]}), "column response holds a list"),
        ("a.jsonl", "", "no labelled rows"),
        ("a.jsonl", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", "[" * 100_000, "one JSON object"),
        ("a.csv", "prompt,response,label\nx,y\n", r"a\.csv:2: no column label"),
        ("a.csv", "label,prompt,response\nsafe,how, then,so .\n", r"a\.csv:2: more cells than the header names"),
        ("a.csv", "prompt,response,label,label\nx,y,safe,unsafe\n", "two columns are named 'label'"),
        ("a.csv", 'prompt,response,label\nx,"y,safe\nx,z,safe\n', r"a\.csv:3: .*double the quotes"),
        ("a.jsonl", '{"prompt": "p", "response": "r", "label": 0, "label": 1}\n', "a name stands twice"),
        ("a.parquet", "", r"\.csv or \.jsonl"),
    ],
)
def test_a_bad_file_is_refused_by_line_and_remedy(tmp_path: Path, name: str, content: str | bytes, needle: str) -> None:
    with pytest.raises(SetupError, match=needle):
        read_labels(written(tmp_path, name, content))


def test_a_missing_file_and_a_misspelt_column_role_are_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SetupError, match="cannot be read: Is a directory"):
        read_labels(tmp_path / "folder.csv")
    with pytest.raises(SetupError, match="columns maps answer"):
        read_labels(tmp_path / "none.csv", columns={"answer": "x"})


def test_no_message_repeats_a_text(tmp_path: Path) -> None:
    secret = "canary words of a response"
    path = written(tmp_path, "a.jsonl", json.dumps({"prompt": secret, "response": secret, "label": secret * 3}))
    with pytest.raises(SetupError) as caught:
        read_labels(path)
    assert "canary" not in str(caught.value)
