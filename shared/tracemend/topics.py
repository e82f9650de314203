"""The catalogue of topics: what travels on each, under which key, and for how long it is kept.

Code and chart read the same list. `<target>` topics exist once per served target; every topic has the suffixes
`.retry.<tier>` and `.dlq` beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from tracemend import records


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic: its name, the record it carries and how the broker keeps it."""

    name: str
    record: type
    key: str
    """The record's field that partitions are chosen by."""
    about: str = ""
    """Path of attributes to the id of the prompt that a record is about; empty where it is about none."""
    partitions: int = 24
    retention_hours: int = 24 * 7

    def subject(self, record: Any) -> str:
        """The id of the prompt that `record` is about."""
        return str(attrgetter(self.about)(record)) if self.about else ""


PROMPTS = Topic(name="tracemend.prompts.v1", record=records.Prompt, key="id", about="id")
GENERATIONS = Topic(
    name="tracemend.generations.v1", record=records.GenerationRequest, key="id", about="prompt.id", partitions=48
)
CONTINUATIONS = Topic(
    name="tracemend.continuations.v1", record=records.GenerationRequest, key="id", about="prompt.id", partitions=48
)
TRAJECTORIES = Topic(
    name="tracemend.trajectories.v1", record=records.Trajectory, key="id", about="prompt.id", partitions=48
)
VERDICTS = Topic(name="tracemend.verdicts.v1", record=records.Verdict, key="id", about="trajectory.prompt.id")
GROUPS = Topic(name="tracemend.groups.v1", record=records.Group, key="id", about="prompt.id")
REWRITES = Topic(
    name="tracemend.rewrites.v1", record=records.RewriteRequest, key="id", about="verdict.trajectory.prompt.id"
)
OUTCOMES = Topic(name="tracemend.outcomes.v1", record=records.Outcome, key="id", about="unit.prompt")
CHECKPOINTS = Topic(name="tracemend.checkpoints.v1", record=records.Checkpoint, key="id", partitions=6)

ALL = (PROMPTS, GENERATIONS, CONTINUATIONS, TRAJECTORIES, VERDICTS, GROUPS, REWRITES, OUTCOMES, CHECKPOINTS)


def for_target(topic: Topic, target: str) -> str:
    """The name of a per-target topic: `tracemend.generations.<target>.v1`."""
    stem, version = topic.name.rsplit(".", 1)
    return f"{stem}.{target}.{version}"


RETRY_TIERS_S = (1, 30, 300)
"""Delays of the topics that hold what was put back; each message is delivered when it is due, not when its tier is."""
DEAD_LETTERS = ".dlq"
"""Suffix of the topic that keeps what was given up."""


def retry_name(topic: str, tier_s: int) -> str:
    """The name of a delay topic: `<topic>.retry.<tier>`."""
    return f"{topic}.retry.{tier_s}s"


def of_targets(targets: Sequence[str], topics: Sequence[Topic] = ALL) -> tuple[Topic, ...]:
    """The topics that exist where `targets` are served: per-target ones once for each, the others as they are."""
    return tuple(
        one
        for topic in topics
        for one in (
            [replace(topic, name=for_target(topic, target)) for target in targets]
            if topic in (GENERATIONS, CONTINUATIONS)
            else [topic]
        )
    )
