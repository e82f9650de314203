"""What each arm does by itself once its units have ended: assemble a dataset, train on it, keep the best candidate."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tracemend.embedded import carrying, underway
from tracemend.embedded.assembling import Assembler
from tracemend.embedded.models import Target
from tracemend.embedded.phases import once
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Observer
from tracemend.embedded.rewarding import reward_identity
from tracemend.embedded.workspace import Workspace
from tracemend.kit.errors import SetupError
from tracemend.records import Axis, Checkpoint, DatasetManifest, Outcome, OutcomeState
from tracemend.trainer import dataset
from tracemend.trainer.algorithm import make_algorithm
from tracemend.trainer.settings import SweepSettings, TrainSettings
from tracemend.trainer.training import TrainingJob

Train = Callable[[TrainingJob], Awaitable[Checkpoint]]
"""Runs a training job wherever the plan says."""


class Score(Protocol):
    """Metric values on the validation prompts: what sweeps choose by."""

    async def candidate(self, name: str, target: Target, identity: str) -> dict[str, float]: ...

    async def base(self) -> dict[str, float]: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The arms of one run, after correction."""

    workspace: Workspace
    run: str
    plan: Plan
    judges: dict[str, str]
    observer: Observer

    async def publish(self, arm: str, *, target: Target) -> DatasetManifest:
        """The arm's dataset: assembled, stored, and written to `datasets/ARM`. `target` is the model that the arm
        starts from."""

        async def assemble() -> dict[str, Any]:
            self.observer.phase(f"assemble {arm}")
            return dataclasses.asdict(await self._assembler.publish(arm, target=target))

        inputs = await self._assembler.inputs(arm, target=target)
        manifest = manifest_of(await once(self.workspace, self.run, f"assemble:{arm}", inputs, assemble))
        folder = self.workspace.folder / "datasets" / arm
        if not folder.exists() or dataset.read_manifest(folder) != manifest:
            await dataset.export(self.workspace.store, manifest, folder)
        return manifest

    async def train(
        self, arm: str, manifest: DatasetManifest, *, target: Target, parent: str, train: Train, score: Score
    ) -> Checkpoint:
        """The arm's checkpoint; with a sweep, the candidate that does best on the validation prompts. An arm has one
        folder: where another training has replaced the weights since, they are trained again."""
        settings = self.plan.run.arms[arm].train
        assert settings is not None
        inputs = [parent, manifest.digest, settings.model_dump(mode="json"), *self._causes(settings, target)]
        for again in itertools.count():
            fields = await once(
                self.workspace,
                self.run,
                f"train:{arm}",
                [*inputs, again] if again else inputs,
                lambda: self._train(arm, settings, target=target, parent=parent, train=train, score=score),
            )
            checkpoint = Checkpoint(**fields)
            if self.workspace.is_shared:
                await carrying.fetch(self.workspace, self.run, checkpoint)
            if await asyncio.to_thread(self._is_in_place, checkpoint, target):
                return checkpoint
        raise AssertionError("a training that has just ended is in place")

    async def outcomes(self, arm: str, states: Sequence[OutcomeState] = ()) -> list[Outcome]:
        """The outcomes that the arm's rows come from (those of the arm that owns its units)."""
        return await self._assembler.outcomes(arm, *states)

    @property
    def _assembler(self) -> Assembler:
        return Assembler(workspace=self.workspace, run=self.run, plan=self.plan, judges=self.judges)

    # -------------------------------------------------------------------------------------- training

    async def _train(
        self, arm: str, settings: TrainSettings, *, target: Target, parent: str, train: Train, score: Score
    ) -> dict[str, Any]:
        candidates: list[tuple[float, Checkpoint]] = []
        for number, candidate in enumerate(settings.candidates()):
            name = arm if settings.sweep is None else _candidate(arm, number)
            self.observer.phase(f"train {name}")
            job = self._job(arm, name, candidate, target=target, parent=parent)
            async with self._safe_elsewhere(job):
                checkpoint = await train(job)
            candidates.append((candidate.learning_rate, checkpoint))
        best = candidates[0][1]
        if settings.sweep is not None:
            best = await self._best(arm, settings.sweep, candidates, target=target, score=score)
        if self.workspace.is_shared:  # before the phase has its result, which sends others to the store
            await carrying.keep(self.workspace, self.run, best)
        return dataclasses.asdict(best)

    def _safe_elsewhere(self, job: TrainingJob) -> contextlib.AbstractAsyncContextManager[None]:
        """Other machines that share the workspace can go on with the training while inside."""
        if self.workspace.is_shared:
            return underway.carried_along(self.workspace, self.run, job)
        return contextlib.nullcontext()

    async def _best(
        self,
        arm: str,
        sweep: SweepSettings,
        candidates: Sequence[tuple[float, Checkpoint]],
        *,
        target: Target,
        score: Score,
    ) -> Checkpoint:
        scored: list[tuple[tuple[bool, float], float, Checkpoint, dict[str, float]]] = []
        base = await score.base() if sweep.at_most_over_base else {}
        tried: dict[str, float] = {}
        for number, (rate, checkpoint) in enumerate(candidates):
            folder = self.workspace.folder / checkpoint.path
            values = await score.candidate(_candidate(arm, number), target.at(folder), checkpoint.model)
            scored.append((sweep.rank(values, base=base), rate, checkpoint, values))
            tried |= {f"candidate/{rate:g}/{metric}": value for metric, value in values.items()}
            shown = ", ".join(f"{metric} {value:.3f}" for metric, value in sorted(values.items()))
            self.observer.say(f"{arm}: learning rate {rate:g}: {shown}")
        _, rate, best, values = min(scored, key=lambda item: (item[0], item[1]))
        chosen = {"learning_rate": rate, **{f"validation/{k}": v for k, v in values.items()}}
        metrics = {**best.metrics, **tried, **chosen}
        return dataclasses.replace(best, metrics=metrics)

    def _is_in_place(self, checkpoint: Checkpoint, target: Target) -> bool:
        folder = self.workspace.folder / checkpoint.path
        # Of a folder that has gone `checkpoint_target` tells the user.
        return not folder.is_dir() or target.at(folder).identity == checkpoint.model

    def _causes(self, settings: TrainSettings, target: Target) -> list[dict[str, str]]:
        """What else a training depends on, where there is any: folders of earlier builds keep their results."""
        causes = {"system": target.settings.system, "reward": self._reward(settings)}
        return [{name: cause} for name, cause in causes.items() if cause]

    def _reward(self, settings: TrainSettings) -> str:
        return reward_identity(self.judges[Axis.HARM.value]) if make_algorithm(settings).samples else ""

    def _job(self, arm: str, name: str, settings: TrainSettings, *, target: Target, parent: str) -> TrainingJob:
        return TrainingJob(
            arm=arm,
            base=target.trainable_folder(),
            parent=parent,
            dataset=self.workspace.folder / "datasets" / arm,
            folder=self.workspace.folder / "checkpoints" / name,
            root=self.workspace.folder,
            settings=settings,
            reasoning_format=target.settings.reasoning_format,
            system=target.settings.system,
            reward=self._reward(settings),
        )


def _candidate(arm: str, number: int) -> str:
    """The name of a sweep's candidate and of its folder: no arm can be called that."""
    return f"{arm}.{number}"


def manifest_of(fields: Mapping[str, Any]) -> DatasetManifest:
    """The manifest as the assemble phase stored it."""
    return DatasetManifest(**{**fields, "shards": tuple(fields["shards"])})


def checkpoint_target(checkpoint: Checkpoint, *, root: Path, target: Target) -> Target:
    """The target with the checkpoint's weights; a `SetupError` if its folder has gone."""
    folder = root / checkpoint.path
    if not folder.is_dir():
        raise SetupError(f"{folder}: the checkpoint of arm '{checkpoint.arm}' is gone; restore it or use a new --out")
    return target.at(folder)
