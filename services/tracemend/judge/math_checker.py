"""Compares formulas in a process of its own: hostile or endless algebra cannot take the judge with it.

`MathChecker` (used by `judges/math_answer`) starts this module as a worker on first use and talks to it in JSON lines.
The worker limits its memory and its time; where it hangs all the same, it is killed and the next question gets a new
one. It ends by itself when its parent is gone, and writes nothing but verdicts: no text reaches a log.
"""

from __future__ import annotations

import asyncio
import json
import select
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import IO

_MEMORY_BYTES = 4 * 2**30
_START_S = 60.0
"""Importing the algebra takes about two seconds on a quiet machine."""

EQUAL, DIFFERENT, UNREADABLE, TIMEOUT, FAILED = "equal", "different", "unreadable", "timeout", "failed"


class MathChecker:
    """One worker process, one question at a time."""

    def __init__(self, *, timeout_s: int) -> None:
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="math-checker")
        self._process: subprocess.Popen[bytes] | None = None

    async def compare(self, reference: str, answer: str) -> str:
        """`EQUAL`, `DIFFERENT`, `UNREADABLE` (the answer is no formula), `TIMEOUT` or `FAILED`."""
        line = json.dumps({"reference": reference, "answer": answer, "timeout_s": self._timeout_s}).encode() + b"\n"
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, line)

    def _ask(self, line: bytes) -> str:
        process = self._running()
        if process is None:
            return FAILED
        # Parsing twice and comparing have a limit each; beyond their sum the worker's own clock has failed.
        reply = _exchange(process, line, timeout_s=4.0 * self._timeout_s)
        if reply in (EQUAL, DIFFERENT, UNREADABLE, TIMEOUT):
            return reply
        _stop(process)
        return reply or FAILED

    def _running(self) -> subprocess.Popen[bytes] | None:
        if self._process is not None and self._process.poll() is None:
            return self._process
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        weakref.finalize(self, _stop, process)
        if _exchange(process, b"", timeout_s=_START_S) != "ready":
            _stop(process)
            return None
        self._process = process
        return process


def _exchange(process: subprocess.Popen[bytes], line: bytes, *, timeout_s: float) -> str:
    """Send `line` and wait for one line back; empty if the worker is gone, `TIMEOUT` if it is silent."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    readable, _, _ = select.select([process.stdout], [], [], timeout_s)
    if not readable:
        _stop(process)
        return TIMEOUT
    return process.stdout.readline().decode("utf-8", "replace").strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            _close(pipe)


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # unsent bytes of a killed worker: there is nobody to read them


# ----------------------------------------------------------------------------------------- the worker


def serve() -> None:
    """The worker's loop: a JSON line in, a word out, until the parent closes the pipe."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    import math_verify  # noqa: F401  (two seconds, before the first question's clock starts)

    print("ready", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print(_compare(question["reference"], question["answer"], timeout_s=question["timeout_s"]), flush=True)


def _compare(reference: str, answer: str, *, timeout_s: int) -> str:
    from math_verify import parse, verify
    from math_verify.errors import TimeoutException

    gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=timeout_s)
    found = parse(answer, parsing_timeout=timeout_s)
    if not gold or not found:
        return UNREADABLE
    # Without `raise_on_error` a comparison that failed would count as "different". Any other error ends the worker,
    # which the parent reads as FAILED.
    try:
        return EQUAL if verify(gold, found, timeout_seconds=timeout_s, raise_on_error=True) else DIFFERENT
    except TimeoutException:
        return TIMEOUT


if __name__ == "__main__":
    serve()
