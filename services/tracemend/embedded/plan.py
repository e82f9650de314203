"""The resolved plan: a validated run file turned into what the phases read, with digests of the parts.

Arms with equal `from`, `select`, `correct` and `keep` share one set of units, accounted to the first of them by name:
what they differ in comes later (assembly, training).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from pydantic import ValidationError

from tracemend.corrector.settings import ArmCorrection, CorrectionPlan
from tracemend.embedded.resources import with_resources
from tracemend.embedded.runfile import BASE, ArmSettings, RunFile
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run, decided."""

    run: RunFile
    digest: str
    owners: Mapping[str, str]
    """Arm that makes rows to the arm that their units are accounted to."""
    order: tuple[str, ...]
    """Arms other than the base, parents first."""

    @property
    def content(self) -> bytes:
        """The plan as it is stored: the resolved run file as JSON, its arms in the file's order."""
        return json.dumps(self.run.model_dump(mode="json", by_alias=True)).encode()

    @property
    def blob(self) -> str:
        """The digest of `content`: where the plan lies in a store, and what the contexts of events carry."""
        return hashlib.sha256(self.content).hexdigest()

    def read_by(self, arm: str) -> tuple[str, ...]:
        """The arms whose outcomes decide the arm's dataset, itself first."""
        return _read_by(self.run, arm)

    def waits_for(self, arm: str) -> set[str]:
        """The arms that must be finished before it."""
        return _waits_for(self.run, arm)

    def owned_by(self, parent: str) -> tuple[str, ...]:
        """Arms that own units and start from `parent`."""
        owners = dict.fromkeys(self.owners.values())
        return tuple(arm for arm in owners if self.run.arms[arm].from_ == parent)

    def corrections(self, parent: str) -> CorrectionPlan:
        """What the corrector does for the arms that start from `parent`."""
        return CorrectionPlan(arms=tuple(_correction(arm, self.run.arms[arm]) for arm in self.owned_by(parent)))

    def lineage(self, arm: str) -> tuple[str, ...]:
        """The arms that `arm` descends from, the oldest first and itself last; none for the base."""
        line: list[str] = []
        while arm in self.run.arms:
            line.append(arm)
            arm = self.run.arms[arm].from_
        return tuple(reversed(line))

    def parents(self) -> tuple[str, ...]:
        """Arms that others start from, in order; the base first."""
        return tuple(arm for arm in (BASE, *self.order) if self.owned_by(arm))


def resolve(run: RunFile) -> Plan:
    """Fill in what the machine's preset says, decide order and unit owners; a `SetupError` if arms wait for each
    other in a circle."""
    run = with_resources(run)
    shared = {arm: _shared_digest(settings) for arm, settings in run.arms.items() if settings.correct is not None}
    # By name, as the digest knows no order: a file whose arms change places must not change whose units they are.
    first = {digest: arm for arm, digest in sorted(shared.items(), reverse=True)}
    owners = {arm: first[digest] for arm, digest in shared.items()}
    owners |= {arm: owners[other] for arm, settings in run.arms.items() if (other := settings.assemble.units_of)}
    graph = {arm: _waits_for(run, arm) for arm in run.arms if arm != BASE}
    try:
        order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        raise SetupError(f"arms wait for each other in a circle: {' → '.join(circle.args[1])}") from None
    digest = digest_of(run.model_dump(mode="json", by_alias=True))
    return Plan(run=run, digest=digest, owners=owners, order=order)


def require_work(run: RunFile) -> None:
    """`SetupError` where a run would read its prompts and do nothing with them."""
    if not run.arms and run.evaluate is None:
        raise SetupError("the run file asks for nothing: add `arms` to make data, or `evaluate` to measure the target")


def _read_by(run: RunFile, arm: str) -> tuple[str, ...]:
    found = [arm]
    for name in found:
        found += [other for other in run.arms[name].assemble.others if other not in found]
    return tuple(found)


def _waits_for(run: RunFile, arm: str) -> set[str]:
    """The arms that are finished first: the one whose rows this one takes, and those whose models sampled the units
    that its dataset is made of; the one that it starts from is among them."""
    sampled_by = {run.arms[other].from_ for other in _read_by(run, arm)}
    return {run.arms[arm].assemble.rows_of, *sampled_by} - {BASE, ""}


def from_content(content: bytes) -> Plan:
    """The plan that was stored as `content`; a `SetupError` if another release wrote it and this one cannot read it."""
    try:
        settings = RunFile.model_validate(json.loads(content))
    except (ValidationError, ValueError) as error:
        what = error.errors(include_url=False)[0]["loc"] if isinstance(error, ValidationError) else "its plan"
        raise SetupError(
            f"this run was started by another release of tracemend, whose plan this one cannot read ({what}); finish "
            "it with the release that began it, or start in another folder"
        ) from None
    return resolve(settings)


def _shared_digest(settings: ArmSettings) -> str:
    assert settings.correct is not None
    parts = (settings.select, settings.correct, settings.keep)
    return digest_of([settings.from_, *(part.model_dump(mode="json") for part in parts)])


def _correction(arm: str, settings: ArmSettings) -> ArmCorrection:
    assert settings.correct is not None
    return ArmCorrection(name=arm, select=settings.select, correct=settings.correct, keep=settings.keep)
