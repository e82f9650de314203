"""A kubelet for pods of jobs: their commands run as processes of this machine, and their ends are reported.

Image, volumes and limits are not its business; environment, exit code, termination message and SIGTERM at a pod's
deletion are.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemend.runtime.kubernetes import Kubernetes


@dataclass
class Kubelet:
    """Runs the pods of one namespace while `work` is awaited."""

    api: Kubernetes
    namespace: str
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """By the pod's name; ended ones as well."""
    reported: set[str] = field(default_factory=set)

    async def work(self) -> None:
        try:
            while True:
                found = await self.api.call("GET", self._path())
                for pod in found["items"] if found else []:
                    await self._look(pod)
                await asyncio.sleep(0.2)
        finally:
            for process in self.processes.values():
                process.kill()
                process.wait()

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))

    async def _look(self, pod: Mapping[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if name not in self.processes and pod["status"]["phase"] == "Pending" and not _is_going(pod):
            self._start(name, pod["spec"]["containers"][0])
            await self._report(name, {"phase": "Running"})
        process = self.processes.get(name)
        if process is None or name in self.reported:
            return
        if _is_going(pod) and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        if process.poll() is not None:
            self.reported.add(name)
            await self._report(name, self._end(name, process.returncode))
            if _is_going(pod):
                await self.api.call("DELETE", f"{self._path()}/{name}", query={"gracePeriodSeconds": "0"})

    def _start(self, name: str, container: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = self.folder / f"{name}.words"
        words.touch()
        environment = {each["name"]: each["value"] for each in container["env"]}
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *container["command"][1:]],
                env={**os.environ, **environment, "TRACEMEND_JOB_WORDS": str(words)},
                stdout=log,
                stderr=log,
            )

    def _end(self, name: str, code: int) -> dict[str, Any]:
        words = (self.folder / f"{name}.words").read_text(encoding="utf-8")
        end = {"exitCode": code if code >= 0 else 128 - code, "message": words, "finishedAt": "2027-01-15T08:00:00Z"}
        container = {"name": "job", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
        statuses = [{**container, "state": {"terminated": end}}]
        return {"phase": "Failed" if code else "Succeeded", "containerStatuses": statuses}

    async def _report(self, name: str, status: Mapping[str, Any]) -> None:
        await self.api.call("PATCH", f"{self._path()}/{name}/status", body={"status": status})

    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"


def _is_going(pod: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]
