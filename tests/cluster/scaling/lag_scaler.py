"""KEDA's Kafka scaler and the autoscaler behind it, as their documentation has them: how many replicas a lag asks for.

From "Apache Kafka" and "Scaling Deployments" in KEDA's documentation (2.20) and "Horizontal Pod Autoscaling" in
Kubernetes': the lag of a trigger is that of all partitions together, at most one threshold for each partition; a group
that has committed nothing lags by everything (`offsetResetPolicy: earliest`). Any lag over `activationLagThreshold`
wakes the first replica; between 1 and the maximum, replicas are lag over `lagThreshold`, the greatest of the triggers,
and go down as slowly as `behavior.scaleDown` says; after `cooldownPeriod` without any lag they go to zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


def lag_of(ends: Mapping[int, int], committed: Mapping[int, int], *, threshold: int) -> int:
    """Of one trigger, by partition: the newest offset and what the group has committed."""
    lag = sum(end - committed.get(partition, 0) for partition, end in ends.items())
    return min(lag, threshold * len(ends))


@dataclass(kw_only=True)
class LagScaler:
    """Decides for one Deployment."""

    threshold: int
    most: int
    cooldown_s: float
    window_s: float
    """`stabilizationWindowSeconds` on the way down; one pod at a time."""
    activation: int = 0
    _active_s: float = -math.inf
    _wanted: list[tuple[float, int]] = field(default_factory=list)

    def replicas(self, lags: Sequence[int], *, now: int, now_s: float) -> int:
        """How many there should be where there are `now`."""
        is_active = any(lag > self.activation for lag in lags)
        if is_active:
            self._active_s = now_s
        if now == 0:
            return int(is_active)
        if now_s - self._active_s >= self.cooldown_s:
            return 0
        wanted = max(1, min(self.most, max(math.ceil(lag / self.threshold) for lag in lags)))
        self._wanted = [(s, n) for s, n in self._wanted if now_s - s < self.window_s] + [(now_s, wanted)]
        return wanted if wanted >= now else max(now - 1, *(n for _, n in self._wanted))
