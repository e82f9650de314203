"""Reads human labels: a JSONL or CSV file of prompts, responses and labels, for `calibrate`.

Columns are found by name, or mapped (`columns={"response": "completion"}`); label words are mapped to safe and unsafe
(`labels={"1_full_compliance": "safe"}`). A file that cannot be understood is refused with its line and the remedy, and
never with its text.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.judge.service import joined
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import make_id
from tracemend.records import Category, Prompt, Value
from tracemend.redaction import Text

_MAX_CELL_CHARS = 10_000_000
"""The csv module's own limit of 131,072 is less than a long reasoning."""
_SURPLUS = "cells that no column has"
_REQUIRED = ("prompt", "response", "label")
_OPTIONAL = ("reasoning", "reference")
LABELS = {
    **dict.fromkeys(("safe", "harmless", "not_harmful", "complied", "right", "0", "false", "no"), Value.SAFE),
    **dict.fromkeys(("unsafe", "harmful", "jailbroken", "refused", "wrong", "1", "true", "yes"), Value.UNSAFE),
}
"""What label words mean where the caller does not say; 1, true and yes name the unsafe side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRow:
    """A response with what a human says of it."""

    prompt: Prompt
    response: Text
    label: Value
    reasoning: Text = Text("")

    @property
    def whole(self) -> Text:
        """Reasoning and response as one text."""
        return joined(self.reasoning, self.response)


def read_labels(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    category: Category = Category.HARMFUL,
) -> list[LabelledRow]:
    """The rows of a `.jsonl` or `.csv` file in file order.

    `columns` maps prompt, response, label, reasoning and reference to the file's column names; `labels` maps the file's
    label words to `safe` or `unsafe`. `SetupError` names file, line and remedy.
    """
    names = {name: name for name in (*_REQUIRED, *_OPTIONAL)} | dict(columns or {})
    if unknown := sorted(names.keys() - {*_REQUIRED, *_OPTIONAL}):
        raise SetupError(f"columns maps {', '.join(unknown)}; it may map {', '.join((*_REQUIRED, *_OPTIONAL))}")
    meanings = LABELS if labels is None else {word.strip().lower(): Value(value) for word, value in labels.items()}
    rows = [_row(fields, where, names, meanings, category) for where, fields in rows_of(path)]
    if not rows:
        raise SetupError(f"{path} holds no labelled rows")
    return rows


def _row(
    fields: Mapping[str, Any],
    where: str,
    names: Mapping[str, str],
    meanings: Mapping[str, Value],
    category: Category,
) -> LabelledRow:
    if missing := [names[name] for name in _REQUIRED if fields.get(names[name]) is None]:
        has = ", ".join(sorted(str(name) for name in fields))
        raise SetupError(f"{where}: no column {', '.join(missing)}; it has {has}; map the names with `--column`")
    word = str(fields[names["label"]]).strip().lower()
    if word not in meanings:
        # A label column may hold free text; a long one is not repeated.
        shown = f"'{word}'" if len(word) <= 40 else f"of {len(word)} characters"
        raise SetupError(f"{where}: unknown label {shown}; known: {', '.join(sorted(meanings))}; map it with `--word`")
    texts = {name: text_of(fields.get(column), where, column) for name, column in names.items() if name != "label"}
    return LabelledRow(
        prompt=Prompt(
            id=make_id("prompt", texts["prompt"]),
            text=texts["prompt"],
            category=category,
            reference=texts["reference"],
        ),
        response=texts["response"],
        reasoning=texts["reasoning"],
        label=meanings[word],
    )


def text_of(value: Any, where: str, column: str) -> Text:
    """A cell's text, empty for none; `SetupError` for what is no text."""
    if value is not None and not isinstance(value, str):
        raise SetupError(f"{where}: column {column} holds a {type(value).__name__}, not a text")
    return Text(value or "")


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`FILE:LINE`, fields) of every row of a `.jsonl` or `.csv` file; `SetupError` where it cannot be read."""
    readers = {".csv": _csv_records, ".jsonl": _json_records}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SetupError(f"{path}: labels come as {' or '.join(sorted(readers))}, not as '{path.suffix}'")
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise SetupError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror or error}") from None


def _csv_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        before = csv.field_size_limit(_MAX_CELL_CHARS)  # the limit is the process's, and others read under theirs
        reader = csv.DictReader(file, restkey=_SURPLUS, strict=True)
        try:
            if twice := [name for name, number in Counter(reader.fieldnames or ()).items() if number > 1]:
                raise SetupError(f"{path}:1: two columns are named '{twice[0]}'; give each a name of its own")
            records = [(f"{path}:{reader.line_num}", fields) for fields in reader]
        except csv.Error as error:
            raise SetupError(
                f"{path}:{reader.reader.line_num}: {error}; quote cells with line breaks and double the quotes in them"
            ) from None
        finally:
            csv.field_size_limit(before)
    for where, fields in records:
        if _SURPLUS in fields:
            raise SetupError(f"{where}: more cells than the header names; quote cells that hold commas")
        yield where, fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields := dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _json_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line, object_pairs_hook=_unique)
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "not JSON, or a name stands twice"
                raise SetupError(f"{path}:{number}: {reason}; every line is one JSON object") from None
            if not isinstance(fields, dict):
                raise SetupError(f"{path}:{number}: not an object; every line is one JSON object")
            yield f"{path}:{number}", fields
