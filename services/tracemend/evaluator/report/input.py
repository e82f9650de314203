"""What a report is made of: plain facts that the pipeline has gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracemend.evaluator.service import Measurements
from tracemend.kit.ports import Cost
from tracemend.records import Checkpoint, DatasetManifest, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput:
    """The facts of one run."""

    run: str
    name: str
    profile: str
    synthetic: bool
    """Whether the world is the proving ground: the page then says that nothing here is evidence about real models."""
    base: str
    measurements: Measurements
    num_admitted: int
    num_refused: int
    refused_reasons: Mapping[str, int]
    units: Mapping[str, int]
    """Planned units per arm that owns them."""
    outcomes: Mapping[tuple[str, str, str], int]
    """(arm, state, reason) → units."""
    owners: Mapping[str, str]
    """Arm → the arm that its units are accounted to."""
    manifests: Mapping[str, DatasetManifest]
    checkpoints: Mapping[str, Checkpoint]
    costs: Sequence[Cost]
    judges: Mapping[str, str]
    """Axis → judge identity; the same judges build the data and measure the result. The detector's and the verifier's
    stand among them where the run has them."""
    examples: Sequence[Outcome]
    """Corrected outcomes to show side by side."""
    plan: Mapping[str, Any]
    plan_digest: str
    total_s: float
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Axis (or `verifier`) → sensitivity, specificity and n of its judge against human labels of `part`, where it was
    calibrated."""
    yields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Arm with interventions → attempts, unsafe, first_share, …, and the same by trigger."""
    unfinished: Mapping[str, str] = field(default_factory=dict)
    """Arm that could not be finished → why."""
