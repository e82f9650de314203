"""A process of ours collects garbage seldom, and its event loop is asyncio's or one that is as good."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from tracemend.kit.own_process import run

_PROGRAM = """
import gc
before = gc.get_threshold()
from tracemend.kit.own_process import settle
assert gc.get_threshold() == before, "importing leaves the process as it is"
settle()
print(gc.isenabled() and gc.get_threshold() > before)
"""


def test_a_settled_process_still_collects_but_less_often() -> None:
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "True"


def test_work_runs_to_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 3

    assert run(work()) == 3
