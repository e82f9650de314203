"""Nodes that train together: how the first of them tells the others what to run.

The first node does the job; the others wait, and run their share of the processes of each of its trainings
(`launchers.follow`). They hear of it through files in a folder that all nodes share, where the training's own files
have to lie anyway, since every process writes its part of a checkpoint. torchrun finds the first node by its name.

A crew is of one attempt and never replaced in part: whoever runs the nodes ends all of them when one fails.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ports import Job

_LOOK_S = 0.5
_DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The nodes of one attempt at a job, as node number `node` sees them; 0 is the first one."""

    num_nodes: int
    node: int
    rendezvous: str
    """`HOST:PORT` of the first node, where torchrun listens while it trains."""
    folder: Path
    """Shared by the nodes, and of this attempt alone."""
    gather_within_s: float = 900.0
    """For nodes that are started together: images may have to be pulled."""

    @classmethod
    def of_environment(cls, folder: Path, environment: Mapping[str, str] = os.environ) -> Crew | None:
        """What the operator tells the pods of an attempt (`trainer.operator.manifests`) and Kubernetes those of an
        Indexed Job; None for a node that works alone. `folder` is the job's own."""
        num_nodes = int(environment.get("TRACEMEND_JOB_NODES", "1"))
        if num_nodes == 1:
            return None
        names = ("TRACEMEND_JOB_RENDEZVOUS", "TRACEMEND_JOB_ATTEMPT", "JOB_COMPLETION_INDEX")
        if missing := [name for name in names if not environment.get(name)]:
            raise SetupError(f"a job on {num_nodes} nodes needs {', '.join(missing)}: create it through the operator")
        rendezvous, attempt, node = (environment[name] for name in names)
        return cls(
            num_nodes=num_nodes, node=int(node), rendezvous=rendezvous, folder=folder / "state" / "crews" / attempt
        )

    def share_of(self, num_processes: int) -> int:
        """How many of a training's processes run on each node."""
        if num_processes % self.num_nodes:
            raise SetupError(
                f"num_processes is {num_processes}, and {self.num_nodes} nodes share them: make it a multiple of "
                f"{self.num_nodes}, or run the job on one node"
            )
        return num_processes // self.num_nodes

    # ------------------------------------------------------------------------------- the first node

    async def call(self, job: Job, request: Path) -> None:
        """Have every node run its share of `job`, which `request` describes. Waits until all nodes are there; `Reject`
        where they do not come."""
        try:
            async with asyncio.timeout(self.gather_within_s):
                while missing := self._missing():  # noqa: ASYNC110 - nobody tells this process
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise Reject(
                "nodes_missing",
                f"nodes {', '.join(map(str, missing))} of {self.num_nodes} did not come to {self.folder} within "
                f"{self.gather_within_s:.0f} s; are they running, and is it one volume for all (ReadWriteMany)?",
            ) from None
        number = sum(1 for _ in self.folder.glob("call-*"))
        self._write(f"call-{number}", f"{job.module}\n{job.num_processes}\n{request}")

    def dismiss(self) -> None:
        """Let the other nodes end."""
        self._write(_DISMISSED, "")

    def _missing(self) -> list[int]:
        return [node for node in range(1, self.num_nodes) if not (self.folder / f"node-{node}").exists()]

    # ------------------------------------------------------------------------------- the other ones

    def join(self) -> None:
        """Tell the first node that this one is there."""
        self._write(f"node-{self.node}", "")

    async def heard(self, number: int) -> tuple[Job, Path] | None:
        """What the first node has called for the `number`-th time (from 0), with its request; None once it has
        dismissed the others."""
        path = self.folder / f"call-{number}"
        while not path.exists():
            if (self.folder / _DISMISSED).exists():
                return None
            await asyncio.sleep(_LOOK_S)
        module, num_processes, request = path.read_text(encoding="utf-8").split("\n", 2)
        folder = str(Path(request).parent)
        job = Job(name=folder, module=module, arguments={}, folder=folder, num_processes=int(num_processes))
        return job, Path(request)

    def _write(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.{self.node}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.folder / name)
