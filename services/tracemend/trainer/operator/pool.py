"""The arbiter between generation and training where both use the same GPUs: runs go first.

While a run is at work, whatever is marked as a member of the pool (the generators) is scaled to nothing, and afterwards
as it was before. What was taken stands on the member itself, so that another operator gives it back; what somebody else
has paused stays paused. The desk asks after every round of decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tracemend.trainer.operator.manifests import GROUP, Json, status_of
from tracemend.trainer.operator.standing import Phase

POOL_LABEL = f"{GROUP}/gpu-pool"
HELD = f"{GROUP}/held"
"""Annotation of a member that was scaled to nothing here; of a Deployment, how many replicas it had."""
PAUSED_AT, PAUSED = "autoscaling.keda.sh/paused-replicas", "autoscaling.keda.sh/paused"
"""What pauses a ScaledObject (KEDA's documentation, "Pause autoscaling")."""
_AT_WORK = (Phase.RUNNING, Phase.RESTARTING)
"""Between two attempts the GPUs are kept: generators that start for seconds would only load their models."""


class Members(Protocol):
    """The cluster, as far as the pool needs it. Each call raises `Retry` where the API does not answer."""

    async def runs(self) -> Sequence[Json]: ...

    async def members(self) -> Sequence[Json]:
        """ScaledObjects and Deployments that carry the pool's label, each with its `kind`."""
        ...

    async def change(self, member: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
        """Merge `patch` into `member` as it was read; `Conflict` where somebody has written since."""
        ...


async def share(cluster: Members) -> bool:
    """Give the pool's GPUs to whom they belong now; whether those are runs."""
    is_wanted = is_at_work(await cluster.runs())
    for member in await cluster.members():
        patch = patch_of(member, is_wanted=is_wanted)
        if patch is not None:
            await cluster.change(member, patch)
    return is_wanted


def is_at_work(runs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any run needs the GPUs."""
    return any(status_of(run).phase in _AT_WORK for run in runs)


def patch_of(member: Mapping[str, Any], *, is_wanted: bool) -> Json | None:
    """What makes `member` leave its GPUs where they are wanted by runs, and take them again where they are not."""
    marks = member["metadata"].get("annotations") or {}
    if member["kind"] == "Deployment":
        replicas = member["spec"].get("replicas", 1)
        if is_wanted and replicas:
            return _patch({HELD: str(replicas)}, {"replicas": 0})
        if not is_wanted and HELD in marks:
            return _patch({HELD: None}, {"replicas": replicas or int(marks[HELD])})
        return None
    if is_wanted and not marks.keys() & {PAUSED, PAUSED_AT}:
        return _patch({HELD: "", PAUSED_AT: "0"})
    if not is_wanted and HELD in marks:
        return _patch({HELD: None, PAUSED_AT: None})
    return None


def _patch(marks: Mapping[str, str | None], spec: Mapping[str, Any] | None = None) -> Json:
    return {"metadata": {"annotations": dict(marks)}, **({"spec": dict(spec)} if spec else {})}
