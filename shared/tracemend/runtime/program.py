"""The life of a service process, from its settings to its exit code.

`tracemend serve` calls `run_program`; a service's `main(settings, program)` opens adapters, tells the program what it
depends on, what runs and what stopping takes, and awaits `serve`:

    started ─► every dependency answered ─► ready ─► SIGTERM ─► not ready ─► REFUSE ─► INTAKE ─► FINISH ─► tasks end
                                                                        ─► FLUSH ─► `serve` returns, `main` closes

Readiness follows the dependencies; liveness is the event loop's alone, so that an outage of a broker restarts nobody.
A second signal ends the process at once: what was in flight counts as crashed and is done again.

Exit codes: 0 told to stop, and drained; 1 a bug; 2 something must be set up; 3 something it needs was away for too
long; 4 told to stop, and work in flight was given back; 128 + N ended at once by signal N.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Generic, TypeAlias, TypeVar

import structlog

from tracemend.kit.errors import SetupError
from tracemend.kit.logs import log_libraries, log_loop_errors, log_to_stderr
from tracemend.kit.telemetry import BUILD_INFO, READY
from tracemend.runtime.program_dependencies import Check, Dependencies, LostDependency
from tracemend.runtime.program_http import Answer, ProbeServer
from tracemend.runtime.program_settings import ProcessSettings
from tracemend.runtime.program_watchdog import Watchdog
from tracemend.runtime.telemetry import ProgramTelemetry, open_telemetry

P = TypeVar("P", bound=ProcessSettings)
Step: TypeAlias = Callable[[float], Awaitable[None]]
"""A step of the drain; it is told how many seconds are left, and is cancelled when they are over."""

_MARGIN_S = 5.0
"""For what leaving `main` takes, beyond what stopping may."""
_LOOK_S = 0.25

EXIT_DRAINED, EXIT_FAILED, EXIT_SETUP, EXIT_LOST, EXIT_UNFINISHED = range(5)

log = structlog.get_logger(__name__)


class Phase(IntEnum):
    """The order of the drain. Steps of one phase run together, each phase after the one before it."""

    REFUSE = 0
    """Tell clients to go elsewhere: health NOT_SERVING."""
    INTAKE = 1
    """Take in nothing new: pause consumers."""
    FINISH = 2
    """Let what is in flight end: pumps, calls."""
    FLUSH = 3
    """Publish and commit what has ended, leave the consumer groups; tasks have ended before."""


class LastCall:
    """Ends the process when stopping takes longer than it may: a thread that hangs would hold it until it is killed, in
    a state that nobody can tell from working. The loop may hang as well, so a thread looks at the clock."""

    def __init__(self, *, within_s: float) -> None:
        self._within_s = within_s
        self._ends_at = math.inf
        threading.Thread(target=self._watch, name="last-call", daemon=True).start()

    def start(self) -> None:
        """Let the time run; a signal handler may call it, so it takes no lock."""
        self._ends_at = min(self._ends_at, time.monotonic() + self._within_s)

    def _watch(self) -> None:
        while time.monotonic() < self._ends_at:
            time.sleep(_LOOK_S)
        os._exit(EXIT_UNFINISHED)


class Program(Generic[P]):
    """What a running service is given: telemetry, and ways to say what it depends on, does and leaves behind."""

    def __init__(self, settings: P, *, telemetry: ProgramTelemetry) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.name = settings.process_name
        """Of this process: worker in attempts and logs, `service.instance.id` in traces."""
        self._dependencies = Dependencies(settings.dependencies, telemetry)
        self._steps: list[tuple[Phase, str, Step]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._told_to_stop = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_serving = False
        self.last_call = LastCall(within_s=settings.stop.finish_within_s + 2 * settings.stop.close_within_s + _MARGIN_S)
        self.has_begun = False
        """Whether `serve` was called: from then on, a signal drains."""
        self.has_left_work = False
        """Whether the drain ended before the work did."""

    # --------------------------------------------------------------------------------- for services

    def depends_on(self, name: str, check: Check) -> None:
        """The service is ready while `check` returns; it raises, or hangs, while the dependency is away."""
        self._dependencies.add(name, check)

    def runs(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until the program stops. An error ends the program; work that ends by itself has ended."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def on_drain(self, phase: Phase, name: str, step: Step) -> None:
        """Take `step` in `phase` of the drain."""
        self._steps.append((phase, name, step))

    def stop(self) -> None:
        """Drain and end, as on SIGTERM."""
        self.last_call.start()
        self._told_to_stop.set()

    async def serve(self) -> None:
        """Wait for the dependencies, be ready until told to stop, and drain.

        Raises what a task of `runs` raised, and `LostDependency`; drained all the same.
        """
        self.has_begun = True
        try:
            await self._until_stopped(self._dependencies.answered())
            if not self._told_to_stop.is_set():
                self._is_serving = True
                log.info("ready", dependencies=self._dependencies.names)
                self._tell_readiness()
                await self._until_stopped(self._dependencies.watch(self._tell_readiness))
        finally:
            self.stop()
            self._tell_readiness()
            await self._drain()

    @property
    def is_ready(self) -> bool:
        """Whether the service can do its work now."""
        return self._is_serving and not self._told_to_stop.is_set() and self._dependencies.all_answer

    def readiness(self) -> Answer:
        """What /readyz answers."""
        state = "draining" if self._told_to_stop.is_set() else "serving" if self._is_serving else "starting"
        told = {"service": self.settings.service, "state": state, "dependencies": self._dependencies.told()}
        return Answer.of(is_good=self.is_ready, told=told)

    # ------------------------------------------------------------------------------------ inside

    def _tell_readiness(self) -> None:
        self.telemetry.gauge(READY, float(self.is_ready))

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None and not self._told_to_stop.is_set():
            log.warning("task ended", task=task.get_name())
        if error is None or self._failed.done():
            return
        log.error("task failed", task=task.get_name(), exc_info=error)
        self._failed.set_exception(error)

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until it ends, the program is told to stop, or one of its tasks fails."""
        loop = asyncio.get_running_loop()
        doing, stopping = loop.create_task(work), loop.create_task(self._stopping())
        try:
            waited: list[asyncio.Future[None]] = [doing, stopping, self._failed]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            if doing.done():
                doing.result()
        finally:
            doing.cancel()
            stopping.cancel()
            await asyncio.wait([doing, stopping])

    async def _stopping(self) -> None:
        await self._told_to_stop.wait()

    async def _drain(self) -> None:
        limits = self.settings.stop
        ends_at = time.monotonic() + limits.finish_within_s
        log.info("draining", within_s=limits.finish_within_s)
        for phase in Phase:
            if phase is Phase.FLUSH:
                await self._end_tasks()
                ends_at = time.monotonic() + limits.close_within_s
            steps = [(name, step) for its, name, step in self._steps if its is phase]
            is_whole = await asyncio.gather(*(self._take(name, step, ends_at) for name, step in steps))
            self.has_left_work = self.has_left_work or not all(is_whole)
        if self._failed.done():
            self.has_left_work = True
            self._failed.exception()  # seen: whoever waited for it has raised it
        log.info("drained", left_work=self.has_left_work)

    async def _take(self, name: str, step: Step, ends_at: float) -> bool:
        """Take a step of the drain; whether it ended well and in time. What fails keeps no other from its turn."""
        left_s = max(0.0, ends_at - time.monotonic())
        try:
            async with asyncio.timeout(left_s):
                await step(left_s)
        except TimeoutError:
            log.warning("draining took too long", step=name)
            return False
        except Exception:  # the drain goes on whatever one part of it meets
            log.exception("draining failed", step=name)
            return False
        return True

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.settings.stop.close_within_s)


Main: TypeAlias = Callable[[P, Program[P]], Awaitable[None]]


def run_program(main: Main[P], settings: P) -> int:
    """Live through a service's whole life in this process; its exit code."""
    as_json = settings.log.format == "json" or (settings.log.format == "auto" and not sys.stderr.isatty())
    log_to_stderr(as_json=as_json, level=settings.log.level)
    log_libraries()
    try:
        return asyncio.run(_live(main, settings))
    except SetupError as error:  # of telemetry and the probes' port, before anything runs
        return _exit_code(error)


async def _live(main: Main[P], settings: P) -> int:
    loop = asyncio.get_running_loop()
    log_loop_errors(loop)
    telemetry = open_telemetry(settings)
    program = Program(settings, telemetry=telemetry)
    watchdog = Watchdog(telemetry, stalled_after_s=settings.watchdog.stalled_after_s)
    probes = ProbeServer(_paths(program, watchdog), host=settings.http.host, port=settings.http.port)
    telemetry.gauge(BUILD_INFO, 1, version=_version(), service=settings.service)
    working = asyncio.ensure_future(main(settings, program))
    _heed_signals(program, working)
    watchdog.start()
    try:
        log.info("starting", service=settings.service, name=program.name, http_port=probes.port)
        await working
    except asyncio.CancelledError:
        log.info("stopped while starting")
    except Exception as error:  # noqa: BLE001 - the boundary of the process: whatever it is becomes an exit code
        return _exit_code(error)
    finally:
        watchdog.stop()
        probes.close()
        await asyncio.to_thread(telemetry.close)
    return EXIT_UNFINISHED if program.has_left_work else EXIT_DRAINED


def _paths(program: Program[P], watchdog: Watchdog) -> dict[str, Callable[[], Answer]]:
    def liveness() -> Answer:
        age_s = watchdog.age_s
        is_alive = age_s <= program.settings.watchdog.dead_after_s
        return Answer.of(is_good=is_alive, told={"event_loop": "turns" if is_alive else f"blocked for {age_s:.0f} s"})

    def metrics() -> Answer:
        content, content_type = program.telemetry.exposition()
        return Answer(status=HTTPStatus.OK, content=content, content_type=content_type)

    return {"/healthz": liveness, "/readyz": program.readiness, "/metrics": metrics}


def _heed_signals(program: Program[P], working: asyncio.Future[None]) -> None:
    """The first signal drains, or ends a start that is under way; the second ends the process. Set as plain handlers,
    which run although the loop is blocked."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def stop() -> None:
        program.stop()
        if not program.has_begun:
            working.cancel()

    def heed(number: int, _frame: object) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        program.last_call.start()
        loop.call_soon_threadsafe(stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heed)


def _exit_code(error: BaseException) -> int:
    """Tell what ended the process, once, and give the exit code that says so."""
    cause = _cause(error)
    if isinstance(cause, SetupError):
        print(f"tracemend: {cause}", file=sys.stderr)
        return EXIT_SETUP
    if isinstance(cause, LostDependency):
        log.error("lost a dependency", dependency=cause.name, away_s=round(cause.away_s))
        return EXIT_LOST
    log.error("program failed", exc_info=cause)
    return EXIT_FAILED


def _cause(error: BaseException) -> BaseException:
    """The error in a group that says most: what the user can mend comes first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(one) for one in error.exceptions]
    return next((one for one in causes if isinstance(one, SetupError | LostDependency)), causes[0])


def _version() -> str:
    return importlib.metadata.version("tracemend")
