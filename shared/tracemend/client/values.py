"""What the client's methods return: plain frozen values, read from the service's messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.kit.run_states import RunState
from tracemend.records import OutcomeState
from tracemend.redaction import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """What a stage of a run took so far."""

    num_items: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_new_tokens: int
    seconds: float
    money: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run as it stood when it was looked at. Lists leave the counts at 0."""

    name: str
    """`runs/RUN`."""
    display_name: str
    state: RunState
    reason: str
    etag: str
    plan: str
    target: str
    submitter: str
    created_s: float
    updated_s: float
    num_received: int = 0
    num_admitted: int = 0
    num_refused: int = 0
    num_units: int = 0
    num_ended: int = 0
    outcomes: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """(arm, state, reason) to the number of units."""
    costs: Mapping[str, StageCost] = field(default_factory=dict)
    """By stage."""

    @property
    def id(self) -> str:
        """The run's id: the last part of its name."""
        return self.name.rpartition("/")[2]

    @property
    def states(self) -> dict[str, int]:
        """Outcomes by state alone."""
        totals: dict[str, int] = {}
        for (_, state, _), number in self.outcomes.items():
            totals[state] = totals.get(state, 0) + number
        return totals

    @property
    def money(self) -> float:
        """What it cost so far, in the currency of the configured prices."""
        return sum(cost.money for cost in self.costs.values())

    @classmethod
    def of(cls, run: Any) -> Self:
        """From a `Run` message."""
        counts = run.counts
        return cls(
            name=run.name,
            display_name=run.display_name,
            state=RunState(pb.Run.State.Name(run.state).removeprefix("STATE_").lower()),
            reason=run.reason,
            etag=run.etag,
            plan=run.plan,
            target=run.target,
            submitter=run.submitter,
            created_s=run.create_time.ToMicroseconds() / 1e6,
            updated_s=run.update_time.ToMicroseconds() / 1e6,
            num_received=counts.num_received,
            num_admitted=counts.num_admitted,
            num_refused=counts.num_refused,
            num_units=counts.num_units,
            num_ended=counts.num_ended,
            outcomes={(one.arm, _outcome(one.state), one.reason): one.number for one in counts.outcomes},
            costs={one.stage: _cost(one) for one in counts.costs},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """How one unit ended."""

    arm: str
    prompt: str
    sample: int
    """-1 where the unit stands for the prompt and not for one of its samples."""
    variant: str
    epoch: int
    state: OutcomeState
    reason: str

    @classmethod
    def of(cls, view: Any) -> Self:
        """From an `OutcomeView`."""
        unit = view.unit
        sample = unit.sample if unit.HasField("sample") else -1
        return cls(
            arm=unit.arm,
            prompt=unit.prompt,
            sample=sample,
            variant=unit.variant,
            epoch=view.epoch,
            state=OutcomeState(_outcome(view.state)),
            reason=view.reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was given up."""

    name: str
    topic: str
    stage: str
    reason: str
    record: str
    created_s: float
    num_bytes: int

    @classmethod
    def of(cls, letter: Any) -> Self:
        """From a `DeadLetter` message."""
        return cls(
            name=letter.name,
            topic=letter.topic,
            stage=letter.stage,
            reason=letter.reason,
            record=letter.record,
            created_s=letter.create_time.ToMicroseconds() / 1e6,
            num_bytes=letter.num_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """Units that were opened anew, or would be."""

    num_units: int
    prompts: Mapping[str, int]
    """Arm to the number of its prompts."""
    reasons: Mapping[str, int]
    """`state/reason` to the number of units that gave cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryText:
    """The words of a trajectory; printed, they show as digests."""

    prompt: Text
    reasoning: Text
    answer: Text


def _cost(cost: Any) -> StageCost:
    return StageCost(
        num_items=cost.num_items,
        num_prompt_tokens=cost.num_prompt_tokens,
        num_cached_tokens=cost.num_cached_tokens,
        num_new_tokens=cost.num_new_tokens,
        seconds=cost.seconds,
        money=cost.money,
    )


def _outcome(number: Any) -> str:
    return str(records_pb2.OutcomeState.Name(number)).removeprefix("OUTCOME_STATE_").lower()
