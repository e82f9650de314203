"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from tracemend.kit.errors import SetupError


def path_of(written: str | Path) -> Path:
    """`written` as a path, a leading `~` or `~user` replaced by that home folder; `SetupError` where there is none."""
    try:
        return Path(written).expanduser()
    except RuntimeError:
        raise SetupError(f"there is no such home folder as '{written}' begins with: write the path in full") from None
