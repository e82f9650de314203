"""What a process that is all ours settles before it works: how often garbage is looked for, and which event loop runs.

Called by commands alone: code that others import leaves their process as it is.
"""

from __future__ import annotations

import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_THRESHOLDS = (10_000, 20, 50)
"""Python's own are 700, 10, 10. Records form no cycles and go as their last reader lets go of them, so that collections
find next to nothing: at Python's pace they are a seventh of the CPU time of a start, and of a run over a fast model."""


def settle() -> None:
    """Have the collector look for cycles less often. Called before anything large is imported."""
    gc.set_threshold(*_THRESHOLDS)


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on uvloop where that is installed."""
    import asyncio

    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
