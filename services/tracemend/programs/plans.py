"""The plans of runs, read from the store by digest and kept.

Every service asks here what the plan of a message says; a plan is a blob that never changes, so nothing expires.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from pathlib import PurePosixPath

from tracemend.embedded.plan import Plan, from_content
from tracemend.generator.settings import TargetSettings
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Store

_MOST = 64
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


class UnknownPlan(SetupError):
    """The store holds no such plan."""


class Plans:
    """Plans by the digest of their blob. One per program."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, Plan] = OrderedDict()

    async def get(self, digest: str) -> Plan:
        """The plan; `UnknownPlan` if there is none, `SetupError` if this release cannot read it, `Retry` while the
        store is away."""
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return self._kept[digest]
        try:
            content = await self._store.get(digest)
        except KeyError:
            raise UnknownPlan(
                f"plan {digest[:16]} is not in the store; services and submitters must use the same one"
            ) from None
        plan = await asyncio.to_thread(from_content, content)
        self._kept[digest] = plan
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return plan


def served_name(target: TargetSettings) -> str:
    """The name under which a plan's target is served: `served_as`, or the last part of the model's path in lower case,
    with what topic names do not take replaced by '-'."""
    last = PurePosixPath(target.model).name.lower()
    return target.served_as or _NOT_IN_NAMES.sub("-", last).strip("-") or "target"
