"""The registry of scripted models: Python functions that stand where a language model would.

`scripted:NAME` opens one as a `TextModel`. The proving ground's teacher is one; tests and null benchmarks have others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tracemend.kit.ports import Completion, ModelRequest
from tracemend.kit.registry import Registry

Script: TypeAlias = Callable[..., Callable[[ModelRequest], Completion]]
"""A script plug-in: keyword options in, a pure function from request to completion out."""

scripts: Registry[Script] = Registry("script", package="tracemend.adapters.scripted", group="tracemend.scripts")


def last_user_message(request: ModelRequest) -> str:
    """The words of the last user message; empty where there is none."""
    for message in reversed(request.messages):
        if message.get("role") == "user":
            return str.__str__(message.get("content", ""))
    return ""


def last_user_words(request: ModelRequest) -> list[str]:
    """The same, split at whitespace."""
    return last_user_message(request).split()
