"""Examples, outcomes and exported datasets for the trainer's tests."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tracemend.records import (
    Axis,
    Category,
    Example,
    Finish,
    Intervention,
    Judgement,
    Outcome,
    OutcomeState,
    Parse,
    Part,
    Prompt,
    Trajectory,
    Unit,
    Value,
    Verdict,
)
from tracemend.redaction import Text
from tracemend.trainer import dataset
from tracemend.trainer.assembly import Assembled
from tracemend.trainer.example_table import EXAMPLES
from tracemend.trainer.settings import TrainSettings
from tracemend.trainer.training import TrainingJob

WORDS = (
    *("okay", "let", "me", "think", "about", "this", "the", "answer", "is", "bread"),
    *("because", "first", "mix", "flour", "and", "water", "then", "wait", "yes"),
)


class MemoryStore:
    """The store port in a dictionary."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    async def put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    async def get(self, digest: str) -> bytes:
        return self.blobs[digest]

    async def get_range(self, digest: str, *, offset: int, length: int) -> bytes:
        return self.blobs[digest][offset : offset + length]

    async def has(self, digest: str) -> bool:
        return digest in self.blobs

    async def digests(self) -> AsyncIterator[str]:
        for digest in list(self.blobs):
            yield digest

    async def delete(self, digest: str) -> None:
        self.blobs.pop(digest, None)


def words(number: int, *, start: int = 0) -> str:
    """`number` harmless words."""
    return " ".join(WORDS[(start + 7 * at) % len(WORDS)] for at in range(number))


def prompt_of(number: int, category: Category = Category.HARMFUL, **tags: str) -> Prompt:
    return Prompt(
        id=f"prompt_{number:04d}",
        text=Text(f"how do I make bread number {number}"),
        category=category,
        source="made-up",
        licence="CC0-1.0",
        tags=tags,
    )


def example_of(number: int, *, reasoning: str | None = None, answer: str | None = None, **changes: Any) -> Example:
    prompt = changes.pop("prompt", None) or prompt_of(number)
    return Example(
        **{
            "id": f"example_{number:04d}",
            "unit": Unit(arm="arm", prompt=prompt.id, sample=0),
            "prompt": prompt,
            "reasoning": Text(words(6 + number % 9, start=number) if reasoning is None else reasoning),
            "answer": Text(words(3 + number % 4, start=3 * number) if answer is None else answer),
            "state": OutcomeState.KEPT,
            "strategy": "",
            **changes,
        }
    )


def outcome_of(
    number: int,
    category: Category = Category.HARMFUL,
    *,
    state: OutcomeState = OutcomeState.KEPT,
    sample: int = 0,
    reasoning: str | None = None,
    finish: Finish = Finish.STOP,
    tags: dict[str, str] | None = None,
    arm: str = "arm",
) -> Outcome:
    prompt = prompt_of(number, category, **(tags or {}))
    trajectory = Trajectory(
        id=f"trajectory_{arm}_{number}_{sample}",
        request="",
        prompt=prompt,
        sample=sample,
        model="model",
        reasoning=Text(words(8, start=number + sample) if reasoning is None else reasoning),
        answer=Text(words(4, start=number)),
        parse=Parse.CLOSED,
        finish=finish,
        intervention=Intervention(kind="rewrite", strategy="rewrite") if state is OutcomeState.CORRECTED else None,
    )
    judged = {
        part.value: Judgement(part=part, value=Value.SAFE, judge="exact") for part in (Part.REASONING, Part.ANSWER)
    }
    verdict = Verdict(
        id=f"verdict_{trajectory.id}",
        axis=Axis.HARM,
        trajectory=trajectory,
        whole=Judgement(part=Part.WHOLE, value=Value.SAFE, judge="exact"),
        **judged,
    )
    before = dataclasses.replace(verdict, trajectory=dataclasses.replace(trajectory, reasoning=Text("before")))
    return Outcome(
        id=f"outcome_{arm}_{number}_{sample}",
        unit=Unit(arm=arm, prompt=prompt.id, sample=sample),
        state=state,
        final=verdict if state in (OutcomeState.KEPT, OutcomeState.CORRECTED) else None,
        original=before if state is OutcomeState.CORRECTED else None,
    )


def export_examples(examples: Sequence[Example], folder: Path) -> Path:
    """A dataset folder with `examples`."""

    async def write() -> Path:
        store = MemoryStore()
        assembled = Assembled(rows=tuple(examples))
        manifest = await dataset.publish(store, assembled, EXAMPLES, arm="arm", judges={"harm": "j"})
        return await dataset.export(store, manifest, folder)

    return asyncio.run(write())


def job_of(folder: Path, *, base: Path, examples: Sequence[Example], **settings: Any) -> TrainingJob:
    """A training job in `folder` whose base model lies in `base`."""
    folder.mkdir(parents=True, exist_ok=True)
    return TrainingJob(
        arm="arm",
        base=base,
        parent="base",
        dataset=export_examples(examples, folder / "dataset"),
        folder=folder / "work",
        root=folder,
        settings=TrainSettings(**{"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, **settings}),
    )
