"""CSV with a header line to records, plain or gzipped; cells may hold line breaks, a byte-order mark is skipped.

Undecodable bytes travel through the parser as escapes and are refused afterwards, with their place: the structure of
the file stays readable around them.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tracemend.ingestion.columns import Record
from tracemend.ingestion.files import Line, lines, not_utf8, opened, too_long
from tracemend.ingestion.rows import BadRow
from tracemend.kit.errors import SetupError


def read(path: Path, *, source: str, delimiter: str = ",") -> Iterator[Record | BadRow]:
    """The records of `path`; `where` is the line on which a record begins."""
    with opened(path) as file:
        feed = _Feed(lines(file))
        header = _header(path, feed, delimiter)
        for where, cells in _rows(path, feed, delimiter):
            if isinstance(cells, _Problem):
                yield BadRow(where=where, source=source, reason=cells.reason, detail=cells.detail)
            elif len(cells) != len(header):
                detail = f"{len(cells)} cells, but the header names {len(header)}: is a comma or quote missing?"
                yield BadRow(where=where, source=source, reason="wrong_columns", detail=detail)
            else:
                yield Record(where=where, values=dict(zip(header, cells, strict=True)))


class _Problem(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class _Feed:
    """Lines as text for `csv.reader`, remembering where the record began and which bytes were not UTF-8."""

    def __init__(self, source: Iterator[Line]) -> None:
        self._source = source
        self.number = 0
        self.bad_bytes: str | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._source)
        self.number = line.number
        if line.content is None:
            raise _Problem("too_long", too_long(line))
        try:
            text = line.content.decode("utf-8")
        except UnicodeDecodeError as error:
            self.bad_bytes = self.bad_bytes or not_utf8(line.offset_bytes + error.start, line.content[error.start])
            text = line.content.decode("utf-8", "surrogateescape")
        return text.removeprefix("\ufeff") if line.number == 1 else text


def _header(path: Path, feed: _Feed, delimiter: str) -> list[str]:
    where, cells = next(_rows(path, feed, delimiter), ("", []))
    if isinstance(cells, _Problem):
        raise SetupError(f"{where}: the header is unreadable: {cells.detail}")
    if not cells:
        raise SetupError(f"{path} holds no rows: remove it from `path` or fill it")
    twice = [name for name, count in Counter(cells).items() if count > 1]
    if twice:
        raise SetupError(f"{where}: two columns are named '{twice[0]}': give each column of the header its own name")
    return cells


def _rows(path: Path, feed: _Feed, delimiter: str) -> Iterator[tuple[str, list[str] | _Problem]]:
    """(where, cells or what is wrong) for each record that is not blank. After an error, parsing starts anew on the
    next line."""
    while True:
        parser = csv.reader(feed, delimiter=delimiter, strict=True)
        where = f"{path}:{feed.number + 1}"
        feed.bad_bytes = None
        try:
            cells = next(parser)
        except StopIteration:
            return
        except _Problem as problem:
            yield f"{path}:{feed.number}", problem
        except csv.Error as error:
            yield where, _explained(error)
        else:
            if feed.bad_bytes is not None:
                yield where, _Problem("not_utf8", feed.bad_bytes)
            elif cells:
                yield where, cells


def _explained(error: csv.Error) -> _Problem:
    if "field limit" in str(error):
        limit = f"{csv.field_size_limit():,}"
        return _Problem("too_long", f"a cell of over {limit} characters: close its quote, or use JSON Lines or Parquet")
    if "new-line character" in str(error):
        return _Problem("not_csv", "a lone carriage return: write line ends as line feeds, as with `tr '\\r' '\\n'`")
    return _Problem("not_csv", f"{error}: quotes inside a quoted cell are doubled, and each is closed")
