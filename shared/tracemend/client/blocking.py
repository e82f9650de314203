"""The client for programs without asyncio: the same methods, waited for.

One background thread runs the event loop of all clients of the process; every method hands its work there. It may be
used from any number of threads, and not from inside an event loop.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from tracemend.client.aio import AsyncClient, AsyncRun
from tracemend.client.errors import CallError
from tracemend.client.rows import AnyRow
from tracemend.client.uploading import Progress
from tracemend.client.values import DeadLetter, OutcomeRow, Redriven, RunStatus, TrajectoryText
from tracemend.kit.run_states import RunState
from tracemend.records import OutcomeState

T = TypeVar("T")


class Client:
    """A cluster's front door. Parameters and errors are those of `AsyncClient`; `on_wait` is called from the background
    thread."""

    def __init__(
        self,
        address: str,
        *,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        token_file: str | Path | None = None,
        plaintext: bool = False,
        timeout_s: float = 60.0,
        patience_s: float = 120.0,
        on_wait: Callable[[CallError], None] | None = None,
    ) -> None:
        self._client = AsyncClient(
            address,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            token_file=token_file,
            plaintext=plaintext,
            timeout_s=timeout_s,
            patience_s=patience_s,
            on_wait=on_wait,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        _wait(self._client.aclose())

    def submit(
        self, plan: bytes, prompts: Iterable[AnyRow], *, on_progress: Callable[[Progress], None] | None = None
    ) -> Run:
        """Begin a run, upload its prompts and seal it; repeated, it goes on. `on_progress` is called from the
        background thread."""
        return Run(_wait(self._client.submit(plan, prompts, on_progress=on_progress)))

    def begin(self, plan: bytes) -> Run:
        """Begin a run, or find the one that this plan has begun before."""
        return Run(_wait(self._client.begin(plan)))

    def check(self, plan: bytes) -> RunStatus:
        """What `begin` would begin; nothing is changed."""
        return _wait(self._client.check(plan))

    def run(self, run: str) -> Run:
        """The run with an id or a name `runs/RUN`."""

        async def found() -> AsyncRun:
            return self._client.run(run)

        return Run(_wait(found()))

    def runs(self, *, states: Iterable[RunState] = ()) -> Iterator[RunStatus]:
        """All runs, or those in `states`, the newest first."""
        return _iterate(self._client.runs(states=states))


class Run:
    """A run on the cluster."""

    def __init__(self, run: AsyncRun) -> None:
        self._run = run

    @property
    def name(self) -> str:
        """`runs/RUN`."""
        return self._run.name

    @property
    def id(self) -> str:
        """The last part of the name."""
        return self._run.id

    def status(self) -> RunStatus:
        """How it stands."""
        return _wait(self._run.status())

    def upload(
        self,
        prompts: Iterable[AnyRow],
        *,
        upload: str = "",
        num_rows: int = 0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Progress:
        """Upload prompts; returns when all of them are durable. See `AsyncRun.upload`."""
        return _wait(self._run.upload(prompts, upload=upload, num_rows=num_rows, on_progress=on_progress))

    def seal(self) -> RunStatus:
        """No more prompts will come."""
        return _wait(self._run.seal())

    def cancel(self) -> RunStatus:
        """End it for good."""
        return _wait(self._run.cancel())

    def pause(self) -> RunStatus:
        """Halt it; `resume` goes on."""
        return _wait(self._run.pause())

    def resume(self) -> RunStatus:
        """Go on with it."""
        return _wait(self._run.resume())

    def watch(self) -> Iterator[RunStatus]:
        """The status now, whenever it changes, and at least every ten seconds; ends with the run."""
        return _iterate(self._run.watch())

    def wait(self) -> RunStatus:
        """The status once the run is done, failed or cancelled."""
        return _wait(self._run.wait())

    def outcomes(
        self, *, arm: str = "", states: Iterable[OutcomeState] = (), reason: str = "", prompt: str = ""
    ) -> Iterator[OutcomeRow]:
        """How units ended, by arm, row, sample and variant."""
        return _iterate(self._run.outcomes(arm=arm, states=states, reason=reason, prompt=prompt))

    def redrive(self, *, arm: str = "", reason: str = "", dry_run: bool = False) -> Redriven:
        """Open units that are dead, rejected or given up anew."""
        return _wait(self._run.redrive(arm=arm, reason=reason, dry_run=dry_run))

    def dead_letters(self, *, topic: str = "", stage: str = "", reason: str = "") -> Iterator[DeadLetter]:
        """Messages that were given up, the oldest first."""
        return _iterate(self._run.dead_letters(topic=topic, stage=stage, reason=reason))

    def redrive_dead_letters(
        self,
        *,
        topic: str = "",
        stage: str = "",
        reason: str = "",
        max_messages: int = 0,
        rate_per_s: float = 0.0,
        dry_run: bool = False,
    ) -> tuple[int, int]:
        """Publish dead letters again: (matched, published)."""
        return _wait(
            self._run.redrive_dead_letters(
                topic=topic,
                stage=stage,
                reason=reason,
                max_messages=max_messages,
                rate_per_s=rate_per_s,
                dry_run=dry_run,
            )
        )

    def trace(self, record: str) -> dict[str, Any]:
        """Everything that the run knows of the prompt that an id belongs to; texts are digests."""
        return _wait(self._run.trace(record))

    def text(self, trajectory: str, *, purpose: str) -> TrajectoryText:
        """The words of a trajectory, for reviewers; `purpose` goes into the audit log."""
        return _wait(self._run.text(trajectory, purpose=purpose))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tracemend-client", daemon=True).start()
    return loop


def _wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; interrupted, the work is cancelled."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items one by one; left early, the source is closed."""
    end: Any = object()
    steps: list[asyncio.Task[Any] | None] = []

    async def following() -> T:
        steps[:] = [asyncio.current_task()]
        return await anext(items, end)

    async def closed() -> None:
        await asyncio.gather(*filter(None, steps), return_exceptions=True)  # interrupted, it is still ending
        await items.aclose()

    try:
        while (item := _wait(following())) is not end:
            yield item
    finally:
        _wait(closed())
