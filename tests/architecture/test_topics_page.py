"""The table of topics in docs/architecture.md is true: every topic is there, with the services that read it."""

from __future__ import annotations

import re
from pathlib import Path

from tracemend.corrector.stage import CorrectorStage, TeacherStage
from tracemend.generator.stage import GeneratorStage
from tracemend.judge.stage import JudgeStage
from tracemend.topics import ALL, CHECKPOINTS, OUTCOMES, PROMPTS, Topic, of_targets

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
ROW = re.compile(r"^\| `(tracemend\.[\w.]+)` \| ([\w, ]+) \| (\w+)", re.MULTILINE)


def test_the_page_names_every_topic_and_who_reads_it() -> None:
    told = {name: reader for name, _, reader in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    used = [topic for topic in ALL if topic not in (PROMPTS, CHECKPOINTS)]
    assert set(told) == {topic.name for topic in of_targets(["T"], used)}
    readers = {
        "generator": inputs(GeneratorStage),
        "judge": inputs(JudgeStage),
        "corrector": (*inputs(CorrectorStage), *inputs(TeacherStage)),
        "trainer": (OUTCOMES,),
    }
    assert told == {topic.name: service for service, its in readers.items() for topic in of_targets(["T"], its)}


def inputs(stage: type) -> tuple[Topic, ...]:
    """What a stage reads: the same for all of its kind."""
    its = vars(stage)["inputs"]
    if isinstance(its, property):
        assert its.fget is not None
        its = its.fget(None)
    read: tuple[Topic, ...] = its
    return read
