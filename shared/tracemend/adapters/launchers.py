"""Launchers: who runs a training or evaluation job. In this process, or in processes of its own under torchrun.

`runtime.jobs` opens them. A job's module has a function `run(arguments, *, folder, progress) -> Checkpoint`
(`runtime.jobs.JobFunction`); as a process of its own it is `python -m MODULE JOB.json`, prints its progress as JSON
lines on standard output and leaves `JOB.result.json`. Cancelling the waiting task stops the job, and a launcher that
dies takes its processes with it: they end when their standard input closes. A job that is stopped by SIGTERM ends with
`Preempted`, which is no failure: it is launched again, and goes on where it was.

Each launch in a folder is an attempt with a number of its own, written to `job.attempt`; only the newest may publish.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from tracemend.adapters.crews import Crew
from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.kit.ports import Job
from tracemend.records import Checkpoint

Report: TypeAlias = Callable[[str, int, int, float], None]
"""Called with (job name, step, num_steps, loss) as a job goes on."""

_LAST_WORDS_BYTES = 2000
_RANK_LOGS = "job.ranks"
_ATTEMPT = "job.attempt"
_GRACE_S = 20.0
"""How long a job that was asked to end may take, to write a checkpoint for instance. Whoever ends the launcher itself
usually waits for 30 s, and what the job has written may have to be copied."""
_LOST_AFTER_S = 120.0
"""A node whose share has failed waits for so long for the first node's word on it."""
_RANK_FAILURE = re.compile(r"rank\s*: (\d+) .*?exitcode\s*: (-?\d+)", re.DOTALL)
"""One process in the summary that torchrun ends with; the root cause comes last."""


class Preempted(Retry):
    """The job was told to stop before its end; launched again it goes on from its newest checkpoint."""


class _Cancelled(BaseException):
    """Raised inside a job's thread, through its progress callback, to unwind it. No job may catch it as an error."""


class InlineLauncher:
    """Runs jobs in a thread of this process, one at a time: training libraries keep state per process.

    A cancelled job stops at its next step, so cancelling may wait for one step.
    """

    def __init__(self, *, report: Report | None = None) -> None:
        self._report = report
        self._turn = asyncio.Lock()

    async def run(self, job: Job) -> Checkpoint:
        """Run to the end; raises what the job raises."""
        async with self._turn:
            cancelled = threading.Event()
            work = asyncio.ensure_future(asyncio.to_thread(self._work, job, cancelled))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                cancelled.set()
                await asyncio.wait({work})
                work.exception()
                raise

    def _work(self, job: Job, cancelled: threading.Event) -> Checkpoint:
        def progress(step: int, num_steps: int, loss: float) -> None:
            if cancelled.is_set():
                raise _Cancelled
            if self._report is not None:
                self._report(job.name, step, num_steps, loss)

        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        module = importlib.import_module(job.module)
        try:
            checkpoint: Checkpoint = module.run(job.arguments, folder=folder, progress=progress)
        except _Cancelled:
            # asyncio cannot carry a BaseException of a thread; whoever cancelled is not waiting for a result.
            raise Retry("cancelled") from None
        return checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class SubprocessLauncher:
    """Runs each job in a process of its own, or in `num_processes` of them under torchrun."""

    report: Report | None = None
    environment: Mapping[str, str] | None = None
    """Variables on top of this process's own."""
    crew: Crew | None = None
    """The nodes that share the processes; this one is the first."""

    async def run(self, job: Job) -> Checkpoint:
        """Run to the end.

        Raises:
            SetupError, Reject, Retry: What the job itself raised, or `Reject` with its exit code and last words; of
                several processes, those of the one that failed first.
            Preempted: It was sent SIGTERM.
        """
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        command = command_of(job, folder / "job.json", crew=self.crew)
        request, result, log = folder / "job.json", folder / "job.result.json", folder / "job.log"
        result.unlink(missing_ok=True)
        attempt = begin_attempt(folder)
        order = {"name": job.name, "arguments": dict(job.arguments), "folder": str(folder), "attempt": attempt}
        request.write_text(json.dumps(order), encoding="utf-8")
        shutil.rmtree(folder / _RANK_LOGS, ignore_errors=True)
        if self.crew is not None:
            await self.crew.call(job, request)
        with log.open("wb") as stream:
            code = await self._finish(job, command, stream)
        return _read_result(result, job=job, code=code, last_words=_last_words(folder, log))

    async def _finish(self, job: Job, command: list[str], log: IO[bytes]) -> int:
        extensions = _own_extensions(Path(job.folder))
        process = await _start(command, log, extensions=extensions, environment=self.environment)
        try:
            await self._follow(process, job, log)
            return await process.wait()
        finally:
            await _stop(process)

    async def _follow(self, process: asyncio.subprocess.Process, job: Job, log: IO[bytes]) -> None:
        """Hand on progress lines until standard output closes; everything else goes to the log."""
        assert process.stdout is not None
        rest = b""
        while chunk := await process.stdout.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                step = _progress_in(line)
                if step is None:
                    log.write(line + b"\n")
                elif self.report is not None:
                    self.report(job.name, *step)
            log.flush()
        log.write(rest)


async def follow(crew: Crew) -> None:
    """Run this node's share of every job that the first node of `crew` calls for, until it lets the others go.

    How a job ended is the first node's to tell: here it matters only where nothing is heard from there any more.
    """
    crew.join()
    number, code = 0, 0
    while True:
        try:
            async with asyncio.timeout(_LOST_AFTER_S if code else None):
                called = await crew.heard(number)
        except TimeoutError:
            raise Reject(
                "share_failed", f"the share of node {crew.node} ended with exit code {code}, the first node is silent"
            ) from None
        if called is None:
            return
        job, request = called
        extensions = _own_extensions(request.parent, of=f".{crew.node}")
        log = sys.stderr.buffer
        process = await _start(command_of(job, request, crew=crew), log, extensions=extensions, stdout=log)
        try:
            code = await process.wait()
        finally:
            await _stop(process)
        number += 1


async def _start(
    command: list[str],
    log: IO[bytes],
    *,
    extensions: Path,
    stdout: int | IO[bytes] = asyncio.subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
        stderr=log,
        env={
            "TORCH_EXTENSIONS_DIR": str(extensions),
            **os.environ,
            "TOKENIZERS_PARALLELISM": "false",
            **(environment or {}),
        },
        start_new_session=True,
    )


def command_of(job: Job, request: Path, *, crew: Crew | None = None) -> list[str]:
    """The command line that runs `job`, or a node's share of it."""
    if crew is None and job.num_processes == 1:
        return [sys.executable, "-m", job.module, str(request)]
    if crew is None:
        torchrun, share = ["--standalone", "--local-addr=127.0.0.1"], job.num_processes
    else:
        host, _, port = crew.rendezvous.rpartition(":")
        torchrun = [f"--nnodes={crew.num_nodes}", f"--node-rank={crew.node}"]
        torchrun += [f"--master-addr={host}", f"--master-port={port}"]
        share = crew.share_of(job.num_processes)
    # Standard error goes to our log and to a file for each process; standard output carries progress.
    torchrun += ["--max-restarts=0", f"--nproc-per-node={share}", f"--log-dir={request.parent / _RANK_LOGS}", "--tee=2"]
    return [sys.executable, "-m", "torch.distributed.run", *torchrun, "-m", job.module, str(request)]


def _own_extensions(folder: Path, *, of: str = "") -> Path:
    """Where torch compiles what DeepSpeed needs, with no lock in it.

    It compiles under a lock file that a killed process leaves behind, and whoever comes after waits for ever: in the
    folder that all of a machine share, one killed training would stop every later one.
    """
    extensions = folder / f"job.extensions{of}"
    for lock in extensions.glob("*/lock"):
        lock.unlink(missing_ok=True)
    return extensions


def begin_attempt(folder: Path) -> int:
    """The number of a new attempt at the job in `folder`; all attempts before it are fenced off."""
    with (folder / ".job.attempt.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        attempt = newest_attempt(folder) + 1
        temporary = folder / "job.attempt.tmp"
        temporary.write_text(str(attempt), encoding="utf-8")
        temporary.replace(folder / _ATTEMPT)
    return attempt


def newest_attempt(folder: Path) -> int:
    """The number of the newest attempt at the job in `folder`, 0 before the first."""
    try:
        return int((folder / _ATTEMPT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0


def _progress_in(line: bytes) -> tuple[int, int, float] | None:
    if not line.startswith(b'{"step":'):
        return None
    try:
        values: dict[str, Any] = json.loads(line)
        return int(values["step"]), int(values["num_steps"]), float(values["loss"])
    except (ValueError, KeyError, TypeError):
        return None


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the job's processes if any still runs: asked first, then made to.

    torchrun starts each of its processes in a session of its own, so the job's group does not hold them all.
    """
    assert process.stdin is not None
    apart = _descendants(process.pid)
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, None)):
        if process.returncode is not None and not _group_lives(process.pid):
            break
        apart |= _descendants(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience_s)
    process.stdin.close()  # whoever of the job is left ends by it
    for pid, started in apart:
        if _started(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> set[tuple[int, str]]:
    """Children of a process, theirs and so on, each with its start time, as a pid may be given out again. Empty where
    the system does not tell (no /proc)."""
    found: set[tuple[int, str]] = set()
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in listing.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in children:
            found |= {(child, _started(child)), *_descendants(child)}
    return found


def _started(pid: int) -> str:
    """When a process started, in clock ticks since the machine did; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _read_result(path: Path, *, job: Job, code: int, last_words: str) -> Checkpoint:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = {}
    if "checkpoint" in result and code == 0:
        return Checkpoint(**result["checkpoint"])
    kind, message = result.get("kind", ""), result.get("message", "")
    if kind == "Preempted" or (not kind and code == -signal.SIGTERM):
        raise Preempted(message or f"job {job.name} was ended by SIGTERM; it goes on from its newest checkpoint")
    if kind == "SetupError":
        raise SetupError(message)
    if kind == "Retry":
        raise Retry(message)
    if kind == "Reject":
        raise Reject(result.get("reason", "job_failed"), message)
    raise Reject("job_failed", f"job {job.name} ended with exit code {code}; {last_words}")


def _last_words(folder: Path, log: Path) -> str:
    """What the job said last; of several processes, what the one did that failed first, as far as torchrun knows it.

    A process that was killed comes before those that failed, since they lost a neighbour.
    """
    summary = _tail(log, num_bytes=10 * _LAST_WORDS_BYTES).rpartition("FAILED")[2]
    failures = [(int(rank), int(code)) for rank, code in _RANK_FAILURE.findall(summary)]
    if not failures or not (folder / _RANK_LOGS).is_dir():
        return f"its last words:\n{_tail(log)}"
    killed = [failure for failure in failures if failure[1] < 0 and failure[1] != -signal.SIGTERM]
    rank, code = (killed or failures)[-1]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    logs = sorted((folder / _RANK_LOGS).glob(f"**/{rank}/stderr.log"))
    words = _tail(logs[-1]) if logs else _tail(log)
    return f"process {rank} {how} first; its last words:\n{words}"


def _tail(log: Path, *, num_bytes: int = _LAST_WORDS_BYTES) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - num_bytes))
        return "\n".join(_lines(stream.read().decode("utf-8", "replace")))


def _lines(text: str) -> Iterator[str]:
    """Lines as a terminal would leave them: what a carriage return overwrote is gone."""
    for line in text.strip().split("\n"):
        yield line.rstrip("\r").rpartition("\r")[2]
