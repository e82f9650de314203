"""Stopping in good order when the machine is wanted for something else (SIGTERM).

`training` listens while steps are taken. A SIGTERM is noted, and the training ends after the step that it is in with a
checkpoint of it; killed before that is complete, it goes on from the one before. All processes of a group stop after
the same step, whichever of them was told. Before and after the steps a SIGTERM ends the process at once.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

from tracemend.runtime.jobs import Preempted


class Preemption:
    """Whether this process was sent SIGTERM, as a context. Signals reach only a main thread, so a training in another
    thread is never preempted."""

    def __init__(self) -> None:
        self._told = False
        self._stopped_after: int | None = None
        self._before: Any = None

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def stops_after(self, step: int) -> bool:
        """Whether the training ends after `step`. In a group, every process must ask after every step."""
        if any_of_group(self._told):
            self._stopped_after = step
        return self._stopped_after is not None

    def check(self, *, num_steps: int) -> None:
        """`Preempted` where the training stopped before the last of its `num_steps`."""
        if self._stopped_after is not None and self._stopped_after < num_steps:
            raise Preempted(f"told to stop after step {self._stopped_after} of {num_steps}, where it goes on")

    def _note(self, *_: object) -> None:
        self._told = True


def any_of_group(said: bool) -> bool:
    """Whether any process of the group says yes; in a group, every process must ask."""
    import torch
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return said
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    flag = torch.tensor([float(said)], device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())
