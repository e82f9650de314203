"""The catalogue of topics: what travels on each, under which key, and for how long it is kept.

Code and chart read the same list. `<target>` topics exist once per served target; every topic has the suffixes
`.retry.<tier>` and `.dlq` beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracemend import records


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic: its name, the record it carries and how the broker keeps it."""

    name: str
    record: type
    key: str
    """The record's field that partitions are chosen by."""
    partitions: int = 24
    retention_hours: int = 24 * 7


PROMPTS = Topic(name="tracemend.prompts.v1", record=records.Prompt, key="id")
GENERATIONS = Topic(name="tracemend.generations.v1", record=records.GenerationRequest, key="id", partitions=48)
CONTINUATIONS = Topic(name="tracemend.continuations.v1", record=records.GenerationRequest, key="id", partitions=48)
TRAJECTORIES = Topic(name="tracemend.trajectories.v1", record=records.Trajectory, key="id", partitions=48)
VERDICTS = Topic(name="tracemend.verdicts.v1", record=records.Verdict, key="id")
GROUPS = Topic(name="tracemend.groups.v1", record=records.Group, key="id")
REWRITES = Topic(name="tracemend.rewrites.v1", record=records.RewriteRequest, key="id")
OUTCOMES = Topic(name="tracemend.outcomes.v1", record=records.Outcome, key="id")
CHECKPOINTS = Topic(name="tracemend.checkpoints.v1", record=records.Checkpoint, key="id", partitions=6)

ALL = (PROMPTS, GENERATIONS, CONTINUATIONS, TRAJECTORIES, VERDICTS, GROUPS, REWRITES, OUTCOMES, CHECKPOINTS)


def for_target(topic: Topic, target: str) -> str:
    """The name of a per-target topic: `tracemend.generations.<target>.v1`."""
    stem, version = topic.name.rsplit(".", 1)
    return f"{stem}.{target}.{version}"
