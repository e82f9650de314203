"""Paths of a run file to open files, and files to lines, with messages that say what to change.

Used by the readers and sources. Invariant: memory is bounded by `MAX_LINE_BYTES` whatever the file holds.
"""

from __future__ import annotations

import difflib
import glob
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tracemend.kit.errors import SetupError
from tracemend.kit.paths import path_of

MAX_LINE_BYTES = 4 << 20
"""Longer lines are refused unread: a prompt of this size is a mistake (a missing line end, a binary file)."""

_SKIP_BYTES = 1 << 16
_FOREIGN_MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a zip archive or spreadsheet",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"BZh": "bzip2-compressed",
    b"PAR1": "Parquet",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a file."""

    number: int
    """Counted from 1."""
    offset_bytes: int
    """Where it begins in the (decompressed) file."""
    content: bytes | None
    """With its line end; None if the line is longer than `MAX_LINE_BYTES`."""
    num_bytes: int


def find(path: str | Sequence[str], *, suffixes: tuple[str, ...]) -> list[Path]:
    """The files that `path` names: a path, a glob (`**` too) or a list of these; sorted within a glob, each once.

    Raises `SetupError` for a path that does not exist, a folder, or a pattern that matches nothing.
    """
    wanted = [path] if isinstance(path, str) else list(path)
    if not wanted:
        raise SetupError("`path` is an empty list: name at least one file")
    found = [file for entry in wanted for file in _matches(str(entry), suffixes)]
    return list(dict.fromkeys(found))


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, gunzipped if they are gzip. Read errors at any time become a `SetupError` that names it."""
    try:
        with path.open("rb") as raw:
            mark = raw.read(4)
            raw.seek(0)
            if mark[:2] == b"\x1f\x8b":
                with gzip.open(raw) as unzipped:
                    yield unzipped  # type: ignore[misc]  # GzipFile has every method of IO[bytes] that we call
            else:
                _refuse_foreign(path, mark)
                yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SetupError(f"{path}: damaged gzip file ({error}): copy or compress it again") from error
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror or error}") from error


def lines(file: IO[bytes]) -> Iterator[Line]:
    """The lines of an open file; over-long ones are skipped over without being held in memory."""
    number = offset = 0
    while content := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        size = len(content)
        kept: bytes | None = content
        if size > MAX_LINE_BYTES:
            kept, last, content = None, content[-1:], b""
            while not last.endswith(b"\n") and (last := file.readline(_SKIP_BYTES)):
                size += len(last)
        yield Line(number=number, offset_bytes=offset, content=kept, num_bytes=size)
        offset += size


def too_long(line: Line) -> str:
    """What to say of a line that was skipped for its length."""
    return f"a line of {line.num_bytes:,} bytes; the limit is {MAX_LINE_BYTES:,}: is a line end missing?"


def not_utf8(offset_bytes: int, byte: int) -> str:
    """What to say of bytes that are no UTF-8."""
    return (
        f"byte 0x{byte:02x} at offset {offset_bytes:,} is not UTF-8: convert the file, for example with "
        "`iconv -f WINDOWS-1252 -t UTF-8`"
    )


def _matches(entry: str, suffixes: tuple[str, ...]) -> list[Path]:
    path = path_of(entry)
    if path.is_file():
        return [path]
    if path.is_dir():
        pattern = f"{entry.rstrip('/')}/*{suffixes[0]}"
        raise SetupError(f"{entry} is a folder: name its files (`{pattern}`), or use `source: huggingface`")
    if path.exists():
        raise SetupError(f"{entry} is no plain file (a device or a pipe): save what it gives to a file and name that")
    if any(sign in entry for sign in "*?["):
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]
        if not files:
            raise SetupError(
                f"{entry} matches no file in {Path.cwd()}" if not path.is_absolute() else f"{entry} matches no file"
            )
        return files
    raise SetupError(f"{entry} does not exist{_near(path)}")


def _near(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder}"
    names = _sorted_names(folder.iterdir())
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {folder / close[0]}?" if close else f" in {folder.resolve()}"


def _sorted_names(paths: Iterable[Path]) -> list[str]:
    return sorted(path.name for path in paths)


def _refuse_foreign(path: Path, mark: bytes) -> None:
    for known, what in _FOREIGN_MARKS.items():
        if mark.startswith(known):
            remedy = "save it as UTF-8" if what == "UTF-16" else "unpack or convert it, or choose its own source"
            raise SetupError(f"{path} is {what}, not text: {remedy}")
