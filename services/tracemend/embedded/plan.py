"""The resolved plan: a validated run file turned into what the phases read, with digests of the parts.

Arms with equal `from`, `select`, `correct` and `keep` share one set of units, accounted to the first of them: what they
differ in comes later (assembly, training).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from tracemend.corrector.settings import ArmCorrection, CorrectionPlan
from tracemend.embedded.runfile import BASE, ArmSettings, RunFile
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import canonical, digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run, decided."""

    run: RunFile
    digest: str
    owners: Mapping[str, str]
    """Correcting arm to the arm that its units are accounted to."""
    order: tuple[str, ...]
    """Arms other than the base, parents first."""

    @property
    def content(self) -> bytes:
        """The plan as it is stored: canonical JSON of the resolved run file."""
        return canonical(self.run.model_dump(mode="json", by_alias=True))

    def owned_by(self, parent: str) -> tuple[str, ...]:
        """Arms that own units and start from `parent`."""
        owners = dict.fromkeys(self.owners.values())
        return tuple(arm for arm in owners if self.run.arms[arm].from_ == parent)

    def corrections(self, parent: str) -> CorrectionPlan:
        """What the corrector does for the arms that start from `parent`."""
        return CorrectionPlan(arms=tuple(_correction(arm, self.run.arms[arm]) for arm in self.owned_by(parent)))

    def parents(self) -> tuple[str, ...]:
        """Arms that others start from, in order; the base first."""
        return tuple(arm for arm in (BASE, *self.order) if self.owned_by(arm))


def resolve(run: RunFile) -> Plan:
    """Decide order and unit owners; a `SetupError` if arms start from each other in a circle."""
    owners: dict[str, str] = {}
    first: dict[str, str] = {}
    for arm, settings in run.arms.items():
        if settings.correct is not None:
            owners[arm] = first.setdefault(_shared_digest(settings), arm)
    graph = {arm: {settings.from_} - {BASE} for arm, settings in run.arms.items() if arm != BASE}
    try:
        order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        raise SetupError(f"arms start from each other in a circle: {' → '.join(circle.args[1])}") from None
    digest = digest_of(run.model_dump(mode="json", by_alias=True))
    return Plan(run=run, digest=digest, owners=owners, order=order)


def from_content(content: bytes) -> Plan:
    """The plan that was stored as `content`."""
    return resolve(RunFile.model_validate(json.loads(content)))


def _shared_digest(settings: ArmSettings) -> str:
    assert settings.correct is not None
    parts = (settings.select, settings.correct, settings.keep)
    return digest_of([settings.from_, *(part.model_dump(mode="json") for part in parts)])


def _correction(arm: str, settings: ArmSettings) -> ArmCorrection:
    assert settings.correct is not None
    return ArmCorrection(name=arm, select=settings.select, correct=settings.correct, keep=settings.keep)
