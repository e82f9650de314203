"""A worker at the port of the job desk, which notes what it is handed."""

from __future__ import annotations

from tracemend.kit.server_ports import JobRecord


class NotingWorker:
    """Launches nothing."""

    def __init__(self) -> None:
        self.launched: list[tuple[str, int]] = []
        self.stopped: list[str] = []

    async def launch(self, job: JobRecord) -> None:
        self.launched.append((job.key, job.attempt))

    async def stop(self, job: JobRecord) -> None:
        self.stopped.append(job.key)
