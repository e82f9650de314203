"""Parquet files and Hugging Face dataset folders become rows, or say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.kit.errors import SetupError

pa = pytest.importorskip("pyarrow")


def parquet(path: Path, rows: dict[str, list[object]]) -> Path:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), path)
    return path


def read(source: str, path: Path, **options: object) -> list[Row | BadRow]:
    return list(sources.create(source, **{"path": str(path), "category": "harmful", **options}))


def texts(rows: list[Row | BadRow]) -> list[str]:
    return [row.text.reveal() if isinstance(row, Row) else row.reason for row in rows]


def test_parquet_rows_are_read_over_batches_with_tags(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"prompt": [f"p{i}" for i in range(600)], "level": list(range(600))})
    rows = read("parquet", path, columns={"level": "level"})
    assert texts(rows) == [f"p{i}" for i in range(600)]
    assert isinstance(rows[599], Row)
    assert rows[599].tags == {"level": "599"}
    assert rows[599].where == f"{path}[599]"


def test_a_parquet_cell_that_is_no_utf8_is_a_bad_row(tmp_path: Path) -> None:
    damaged = pa.array([b"fine", b"caf\xe9"], type=pa.binary()).view(pa.string())
    path = parquet(tmp_path / "a.parquet", {"prompt": damaged})
    assert texts(read("parquet", path)) == ["fine", "not_utf8"]


def test_a_parquet_file_that_cannot_work_says_what_to_change(tmp_path: Path) -> None:
    empty = parquet(tmp_path / "empty.parquet", {"prompt": pa.array([], pa.string())})
    other = parquet(tmp_path / "other.parquet", {"promtp": ["a"]})
    text = tmp_path / "text.parquet"
    text.write_bytes(b"prompt\na\n")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(other.read_bytes()[:-20])
    for path, expected in (
        (empty, "holds no rows"),
        (other, "no column 'prompt'; did you mean 'promtp'"),
        (text, "not a readable Parquet file"),
        (cut, "not a readable Parquet file"),
    ):
        with pytest.raises(SetupError) as error:
            read("parquet", path, columns={"text": "prompt"})
        assert expected in str(error.value)
        assert path.name in str(error.value)


def test_a_saved_dataset_folder_is_read_by_split(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    train = datasets.Dataset.from_dict({"prompt": [f"t{i}" for i in range(10)]})
    test = datasets.Dataset.from_dict({"prompt": ["e0"]})
    train.select([3, 1]).save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=train, test=test).save_to_disk(tmp_path / "both", num_shards={"train": 2, "test": 1})
    assert texts(read("huggingface", tmp_path / "one")) == ["t3", "t1"]
    assert texts(read("huggingface", tmp_path / "both")) == [f"t{i}" for i in range(10)]
    (row,) = read("huggingface", tmp_path / "both", split="test")
    assert isinstance(row, Row)
    assert (row.text.reveal(), row.split, row.source) == ("e0", "test", "both")
    with pytest.raises(SetupError, match="no split 'tests'; did you mean 'test'"):
        read("huggingface", tmp_path / "both", split="tests")


def test_a_repository_folder_is_read_by_the_splits_that_its_files_name(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00000-of-00002.parquet", {"prompt": ["a"]})
    parquet(tmp_path / "data" / "train-00001-of-00002.parquet", {"prompt": ["b"]})
    parquet(tmp_path / "data" / "val-00000-of-00001.parquet", {"prompt": ["c"]})
    parquet(tmp_path / ".cache" / "train.parquet", {"prompt": ["hidden"]})
    assert texts(read("huggingface", tmp_path)) == ["a", "b"]
    assert texts(read("huggingface", tmp_path, split="validation")) == ["c"]
    with pytest.raises(SetupError, match="no split 'test'"):
        read("huggingface", tmp_path, split="test")


def test_a_folder_without_named_splits_is_its_train_split(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a"}')
    assert texts(read("huggingface", tmp_path)) == ["a"]
    with pytest.raises(SetupError, match="no split 'test'"):
        read("huggingface", tmp_path, split="test")
    (tmp_path / "b.csv").write_text("prompt\nb\n")
    with pytest.raises(SetupError, match=r"\.csv and \.jsonl"):
        read("huggingface", tmp_path)


def test_folders_that_cannot_work_say_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is no folder"):
        read("huggingface", tmp_path / "missing")
    with pytest.raises(SetupError, match="holds no data files"):
        read("huggingface", tmp_path)
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "gone.arrow"}]}')
    with pytest.raises(SetupError, match=r"gone\.arrow"):
        read("huggingface", tmp_path)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(SetupError, match="not readable as JSON"):
        read("huggingface", tmp_path)
