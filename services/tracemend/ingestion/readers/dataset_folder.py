"""A Hugging Face dataset folder to its data files: what `save_to_disk` wrote, or a repository of data files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz")
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
_NO_DATA = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}


def data_files(folder: Path, *, split: str) -> list[Path]:
    """The files that hold `split` of the dataset in `folder`, in order: Arrow files of `save_to_disk`, else Parquet,
    JSON Lines or CSV files whose path names the split (all files, where no path names any split).

    Raises `SetupError` that lists the splits which are there.
    """
    if not folder.is_dir():
        raise SetupError(
            f"{folder} is no folder: `source: huggingface` reads a local dataset folder; "
            "download the dataset first, or use `source: parquet`, `jsonl` or `csv` for a file"
        )
    if (folder / "dataset_dict.json").is_file():
        splits = [str(name) for name in _json(folder / "dataset_dict.json").get("splits", [])]
        if split not in splits:
            raise SetupError(f"{folder} has no split '{split}'{did_you_mean(split, splits)}")
        return _saved(folder / split)
    if (folder / "state.json").is_file():
        return _saved(folder)
    return _repository(folder, split)


def _saved(folder: Path) -> list[Path]:
    listed = _json(folder / "state.json").get("_data_files", [])
    files = [
        folder / Path(str(entry["filename"])).name
        for entry in listed
        if isinstance(entry, dict) and "filename" in entry
    ]
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise SetupError(
            f"{folder}: data files are missing ({', '.join(missing) or 'none listed'}): save the dataset again"
        )
    return files


def _repository(folder: Path, split: str) -> list[Path]:
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and file.name.endswith(SUFFIXES) and file.name not in _NO_DATA and not _hidden(file, folder)
    )
    if not files:
        raise SetupError(f"{folder} holds no data files ({', '.join(SUFFIXES)})")
    chosen = [file for file in files if split in _words(file, folder)]
    splits = sorted({name for file in files for name in _words(file, folder) & set(_SPLITS.values())})
    if not chosen and (splits or split != "train"):
        raise SetupError(f"{folder} has no split '{split}'{did_you_mean(split, splits)}")
    chosen = chosen or files
    formats = sorted({next(suffix for suffix in SUFFIXES if file.name.endswith(suffix)) for file in chosen})
    if len({name.removesuffix(".gz") for name in formats}) > 1:
        raise SetupError(f"{folder} holds its rows as {' and '.join(formats)}: name the files of one format in `path`")
    return chosen


def _words(file: Path, folder: Path) -> set[str]:
    """The words of a path, common names of splits unified: `data/train-00000-of-00002.parquet` has `train`."""
    words = re.split(r"[^a-z0-9]+", file.relative_to(folder).as_posix().lower())
    return {_SPLITS.get(word, word) for word in words}


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{path}: not readable as JSON ({type(error).__name__}): save the dataset again") from error
    if not isinstance(value, dict):
        raise SetupError(f"{path}: expected a JSON object: save the dataset again")
    return value
