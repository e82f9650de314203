"""What the commands that print have in common: a console that keeps its width, inert text, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from tracemend.redaction import Text

_WIDE = 200
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])|\x9b[0-?]*[ -/]*[@-~]")


def print_json(value: Any) -> None:
    """One JSON document on standard output; records become objects and model text its digest."""
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def plain(value: Any, *, shows_text: bool = False) -> Any:
    """`value` as JSON values. Model text is a digest unless `shows_text`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), shows_text=shows_text) for f in dataclasses.fields(value)}
    if isinstance(value, Text):
        return inert(value.reveal()) if shows_text else value.label()
    if isinstance(value, dict):
        return {str(key): plain(item, shows_text=shows_text) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, shows_text=shows_text) for item in value]
    return value


def inert(text: str) -> str:
    """`text` without what a terminal would obey: escape sequences, control and format characters; lines stay."""
    bare = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    return "".join(char if char in "\n\t" or unicodedata.category(char) not in _UNSAFE else "\ufffd" for char in bare)


_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co"})


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without frame whose columns fold instead of being cut."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def wide_console() -> Console:
    """For tables: of a file's lines, unlike a terminal's, none is broken for want of width."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def checks(console: Console, found: Sequence[tuple[str, bool, str]]) -> None:
    """A row per (what, holds, detail)."""
    shown = Table.grid(padding=(0, 1))
    shown.add_column()
    shown.add_column(overflow="fold", max_width=max(48, console.width // 2))
    shown.add_column(overflow="fold", ratio=1)
    for what, holds, detail in found:
        mark = Styled("✓", style="green") if holds else Styled("✗", style="red")
        shown.add_row(mark, Styled(inert(what)), Styled(inert(detail), style="dim" if holds else "none"))
    console.print(shown)


def gigabytes(num_bytes: int) -> str:
    """Decimal gigabytes."""
    return f"{num_bytes / 1e9:,.1f} GB"
