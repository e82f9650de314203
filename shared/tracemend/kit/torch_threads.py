"""How many threads torch computes with on a CPU: the same number wherever one process samples and trains.

torch keeps the number per thread of the process, and a thread takes what was set last when it first computes. Were it
left at that, trainings in one process would add up in other orders from run to run, and learn other weights.
"""

from __future__ import annotations

import os

_AT_MOST = 2
"""Small models lose by more, and large ones are not run on a CPU."""


def settle_threads(num_threads: int | None = None) -> None:
    """Have this thread compute with `num_threads`; by default with OMP_NUM_THREADS, else with two at most."""
    import torch

    torch.set_num_threads(num_threads or _default())


def _default() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # one number for each level of nesting
    return int(asked) if asked.isdecimal() and int(asked) else min(_AT_MOST, len(os.sched_getaffinity(0)))
