"""Secrets: values that are asked for when they are used and show nothing when they are printed.

Settings hold them, adapters reveal them when they connect. A secret that lies in a file is read anew every time, so
that a rotated one is taken up by the next connection; what rotates while it is read (Kubernetes swaps a link) is read
whole, because a file is read in one go.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError

HIDDEN = "********"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A secret given as a value, or as the `file` that it lies in."""

    value: str = ""
    file: Path | None = None

    def reveal(self) -> str:
        """The secret as it is now; a `SetupError` where its file cannot be read or is empty."""
        if self.file is None:
            return self.value
        try:
            content = self.file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SetupError(f"{self.file}: cannot read the secret ({why}); mount it, or make it readable") from None
        if not content:
            raise SetupError(f"{self.file}: holds no secret; write it there")
        return content

    def __bool__(self) -> bool:
        return bool(self.value) or self.file is not None

    def __repr__(self) -> str:
        return f"Secret(file={self.file})" if self.file is not None else f"Secret({HIDDEN if self.value else ''})"

    __str__ = __repr__

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            _parse, serialization=core_schema.plain_serializer_function_ser_schema(repr)
        )


def secret_of(name: str, environ: Mapping[str, str] = os.environ) -> Secret:
    """The secret of the environment variable `name`, or of the file that `name`_FILE names; a `SetupError` for both."""
    value, file = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if value and file:
        raise SetupError(f"{name} and {name}_FILE are both set: keep one of them")
    return Secret(file=Path(file)) if file else Secret(value)


def _parse(given: Any) -> Secret:
    match given:
        case Secret():
            return given
        case str():
            return Secret(given)
        case {"file": str() | Path() as file, **others} if not others:
            return Secret(file=Path(file))
    raise ValueError("write the secret itself, or {file: PATH} for one that lies in a file")
