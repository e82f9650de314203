"""Where the processes of jobs run: a port, and processes of this machine (`kubernetes_jobs` has the other).

A host is handed attempts by `jobs.JobRunner`, one at a time for each run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from typing import Any, Protocol

from tracemend.embedded.job import Order
from tracemend.kit.server_ports import Fenced, JobRecord

STOPPED = "stopped"
"""The run was paused or cancelled meanwhile."""
CRASH = "crash"

_END_WITHIN_S = 30.0
"""For a job that is told to stop."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended."""

    how: str
    """`done`, `stopped`, `crash`, or the name of the error that the job ended with on purpose."""
    reason: str = ""
    attempt: int
    """The one that ended so: the newest that the host knows of."""

    @property
    def was_fenced(self) -> bool:
        """Whether another attempt works in its place."""
        return self.how == Fenced.__name__


class JobHost(Protocol):
    """Runs jobs to their end."""

    async def is_at_work(self, job: JobRecord) -> bool:
        """Whether an attempt of `job` works there without this process: it is waited for, not started anew."""
        ...

    async def run(self, job: JobRecord, order: Order) -> Ended:
        """Run the newest attempt of `job`, or wait for the one at work. Cancelled, what cannot outlive this process is
        ended first."""
        ...

    async def stop(self, job: JobRecord) -> None:
        """End whatever of `job` is at work; nothing may be."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessHost:
    """Jobs as processes of this machine, which end with this one."""

    async def is_at_work(self, job: JobRecord) -> bool:
        return False

    async def run(self, job: JobRecord, order: Order) -> Ended:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tracemend.embedded.job",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(dataclasses.asdict(order)).encode() + b"\n")
            await process.stdin.drain()
            said = await process.stdout.read()
            await process.wait()
        except BaseException:
            await asyncio.shield(_stop(process))
            raise
        how, reason = read_end(said, process.returncode)
        return Ended(how=how, reason=reason, attempt=order.attempt)

    async def stop(self, job: JobRecord) -> None:
        """Cancelling `run` has done it."""


def read_end(said: bytes, code: int | None) -> tuple[str, str]:
    """How a job's process ended and why, by its last line and its exit code; a crash where it does not say."""
    lines = said.decode(errors="replace").splitlines()
    try:
        told: Any = json.loads(lines[-1]) if lines else None
    except ValueError:
        told = None
    if isinstance(told, dict) and told.keys() >= {"ended", "reason"}:
        return str(told["ended"]), str(told["reason"])
    by = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    return CRASH, f"the job's process ended by {by}"


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Let it end what it is at, for a while."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_END_WITHIN_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
