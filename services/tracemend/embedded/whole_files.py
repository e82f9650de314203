"""Small files of a run's folder that appear whole or not at all, whatever is killed while they are written."""

from __future__ import annotations

from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Put `text` at `path`: a reader, or a command after a kill, sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
