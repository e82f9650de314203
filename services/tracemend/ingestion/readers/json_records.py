"""JSON Lines and JSON arrays to records, plain or gzipped.

JSON Lines stream; an array is loaded whole, so it is only taken up to `MAX_ARRAY_BYTES`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tracemend.ingestion.columns import Record
from tracemend.ingestion.files import Line, lines, not_utf8, opened, too_long
from tracemend.ingestion.rows import BadRow
from tracemend.kit.errors import SetupError

MAX_ARRAY_BYTES = 256 << 20
_BOM = b"\xef\xbb\xbf"
_START_BYTES = 4096
"""How far the first sign of a file is looked for."""


def read(path: Path, *, source: str) -> Iterator[Record | BadRow]:
    """The records of `path`: of its lines, or of its one array if it begins with `[`."""
    with opened(path) as file:
        # Not the first line: an array that was written without line breaks is one, however long.
        start = file.read(_START_BYTES)
        file.seek(0)
        if start.removeprefix(_BOM).lstrip().startswith(b"["):
            yield from _array(path, file, source)
        else:
            yield from _lines(path, file, source)


def _lines(path: Path, file: IO[bytes], source: str) -> Iterator[Record | BadRow]:
    for line in lines(file):
        where = f"{path}:{line.number}"
        try:
            value = _parsed(line)
        except _Unreadable as error:
            yield BadRow(where=where, source=source, reason=error.reason, detail=error.detail)
            continue
        if value is not None:
            yield _record(value, where=where, source=source)


def _array(path: Path, file: IO[bytes], source: str) -> Iterator[Record | BadRow]:
    content = file.read(MAX_ARRAY_BYTES + 1)
    if len(content) > MAX_ARRAY_BYTES:
        raise SetupError(
            f"{path}: a JSON array of over {MAX_ARRAY_BYTES >> 20} MiB cannot be read in pieces: "
            f"convert it to JSON Lines, for example with `jq -c '.[]'`"
        )
    try:
        values = json.loads(content.removeprefix(_BOM).decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise SetupError(f"{path}: {not_utf8(error.start, error.object[error.start])}") from None
    except json.JSONDecodeError as error:
        raise SetupError(f"{path}:{error.lineno}: not valid JSON at column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{path}: not readable as JSON: {type(error).__name__}") from None
    del content
    for index, value in enumerate(values):
        yield _record(value, where=f"{path}[{index}]", source=source)


class _Unreadable(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def _parsed(line: Line) -> object | None:
    """The value on a line, None for a blank one."""
    if line.content is None:
        raise _Unreadable("too_long", too_long(line))
    mark = len(_BOM) if line.number == 1 and line.content.startswith(_BOM) else 0
    try:
        text = line.content[mark:].decode("utf-8")
    except UnicodeDecodeError as error:
        position = mark + error.start
        raise _Unreadable("not_utf8", not_utf8(line.offset_bytes + position, line.content[position])) from None
    if not text.strip():
        return None
    try:
        value: object = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        detail = f"column {error.colno}: {error.msg}; each line must be one whole JSON object"
        raise _Unreadable("not_json", detail) from None
    except (ValueError, RecursionError) as error:
        raise _Unreadable("not_json", f"too deep or a number too long ({type(error).__name__})") from None
    if value is None:
        raise _Unreadable("not_json", "`null` is no object")
    return value


class _Ambiguous(dict[str, Any]):
    """An object with a key that is there twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Ambiguous(found)


def _record(value: object, *, where: str, source: str) -> Record | BadRow:
    if isinstance(value, _Ambiguous):
        detail = "a name stands twice in the object: which value is meant? Keep one of them"
        return BadRow(where=where, source=source, reason="repeated_name", detail=detail)
    if isinstance(value, dict):
        return Record(where=where, values=value)
    detail = f"expected an object with named fields, found {type(value).__name__}"
    return BadRow(where=where, source=source, reason="not_json", detail=detail)
