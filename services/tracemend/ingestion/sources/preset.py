"""Source `preset`: a public prompt set by name, from a folder of downloaded data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tracemend.ingestion.columns import Columns, Record
from tracemend.ingestion.presets import FILE, PRESETS, Preset, Values
from tracemend.ingestion.readers import reader_of, rows_of
from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.kit.errors import SetupError
from tracemend.kit.paths import path_of
from tracemend.kit.registry import did_you_mean

_TEXT, _REFERENCE = "(text)", "(reference)"
VARIABLE = "TRACEMEND_DATA"


@sources.register
def preset(
    *, name: str, data: str = "", subset: str | Sequence[str] = "", language: str = "", limit: int | None = None
) -> Iterator[Row | BadRow]:
    """The rows of the public set `name`; files are looked for in `data`, else in the folder that TRACEMEND_DATA names.

    `subset` chooses by the set's own division (a value or a list), `language` the language of a translated set;
    `limit` counts the rows that are left.
    """
    if name not in PRESETS:
        raise SetupError(f"unknown preset '{name}'{did_you_mean(name, sorted(PRESETS))}")
    if limit is not None and limit < 1:
        raise SetupError(f"`limit` must be at least 1, not {limit}: leave it out to read everything")
    chosen = _in_language(name, PRESETS[name], language)
    files = _files(name, chosen, data)
    rows = rows_of(files, columns=_columns(name, chosen), reader=_reader(chosen))
    wanted = [subset] if isinstance(subset, str) else list(subset)
    return islice(_selected(name, chosen, rows, wanted=[value for value in wanted if value]), limit)


def _in_language(name: str, chosen: Preset, language: str) -> Preset:
    if not chosen.languages:
        if language:
            raise SetupError(f"preset '{name}' is in one language: leave `language` out")
        return chosen
    column = language or chosen.languages[0]
    if column not in chosen.languages:
        raise SetupError(f"preset '{name}' has no language '{column}'; it has {', '.join(chosen.languages)}")
    return replace(chosen, text=column, constants={**chosen.constants, "language": column})


def _files(name: str, chosen: Preset, data: str) -> list[Path]:
    folder = data or os.environ.get(VARIABLE, "")
    if not folder:
        raise SetupError(
            f"preset '{name}' reads files of your own: put {', '.join(chosen.files)} in FOLDER/{chosen.folder} and "
            f"set the option `data: FOLDER` or the variable {VARIABLE}=FOLDER"
        )
    root = path_of(folder)
    files = [
        next((p for p in (root / chosen.folder / file, root / file) if p.is_file()), None) for file in chosen.files
    ]
    missing = [file for file, path in zip(chosen.files, files, strict=True) if path is None]
    if missing:
        raise SetupError(
            f"preset '{name}': put {', '.join(missing)} in {root / chosen.folder} (or set `data`, {VARIABLE})"
        )
    return [path for path in files if path is not None]


def _columns(name: str, chosen: Preset) -> Columns:
    columns = {"text": _TEXT, **chosen.tags}
    if chosen.reference:
        columns["reference"] = _REFERENCE
    return Columns(source=name, category=chosen.category, licence=chosen.licence, split=chosen.split, columns=columns)


def _reader(chosen: Preset) -> Callable[..., Iterator[Record | BadRow]]:
    """The file's own reader, with text and reference put together and the file's stem added."""

    def read(path: Path, *, source: str) -> Iterator[Record | BadRow]:
        stem = path.name.split(".", 1)[0].removeprefix("safety_")
        for record in reader_of(path)(path, source=source):
            yield record if isinstance(record, BadRow) else _prepared(chosen, record, stem, source)

    return read


def _prepared(chosen: Preset, record: Record, stem: str, source: str) -> Record | BadRow:
    try:
        extra = {FILE: stem, _TEXT: _value(chosen.text, record.values)}
        if chosen.reference:
            extra[_REFERENCE] = _value(chosen.reference, record.values)
    except KeyError as error:
        raise SetupError(
            f"{record.where}: no column {error}: this is not the file of preset '{source}'; read it with its own source"
        ) from None
    except TypeError as error:
        detail = f"a column is not of the set's type ({error})"
        return BadRow(where=record.where, source=source, reason="wrong_columns", detail=detail)
    return Record(where=record.where, values={**record.values, **extra})


def _value(column: str | Callable[[Values], str], values: Values) -> object:
    return values[column] if isinstance(column, str) else column(values)


def _selected(name: str, chosen: Preset, rows: Iterator[Row | BadRow], *, wanted: list[str]) -> Iterator[Row | BadRow]:
    """The rows that belong to the preset and to one of the `wanted` subsets (all, if none is named)."""
    if wanted and not chosen.subset:
        raise SetupError(f"preset '{name}' has no subsets: leave `subset` out")
    seen: dict[str, int] = {}
    for row in rows:
        if isinstance(row, BadRow):
            yield row
        elif all(row.tags.get(tag) == value for tag, value in chosen.only.items()):
            value = row.tags.get(chosen.subset, "")
            seen[value] = seen.get(value, 0) + 1
            if not wanted or value in wanted:
                yield replace(row, tags={**row.tags, **chosen.constants})
    if unknown := [value for value in wanted if value not in seen]:
        raise SetupError(f"preset '{name}' has no subset '{unknown[0]}'{did_you_mean(unknown[0], sorted(seen))}")
