"""Training one arm's model on its dataset: what a training job does, from the rows to a finished model folder.

Called by `trainer.job`, in this process or under torchrun. The result is a function of the job alone: killed anywhere
and started again, a training goes on from its newest sealed checkpoint to the same weights, and one that is finished
returns its result at once. Nothing is trained before the fidelity gate has passed the rows.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.kit.ids import digest_of, make_id
from tracemend.kit.torch_threads import settle_threads
from tracemend.records import Checkpoint
from tracemend.trainer.algorithm import Algorithm, TrainerInputs, make_algorithm
from tracemend.trainer.callbacks import Progress, training_callbacks
from tracemend.trainer.checkpoints import newest_sealed, seconds_of
from tracemend.trainer.dataset import read_manifest
from tracemend.trainer.preemption import Preemption
from tracemend.trainer.preparation import Prepared, prepare
from tracemend.trainer.process import exclusive, quiet_libraries
from tracemend.trainer.reward import Reward
from tracemend.trainer.sealing import Sealer
from tracemend.trainer.settings import TrainSettings

_RESULT = "result.json"
_MEASURES = ("rewards", "nll", "reward")
"""Names, up to the first slash, under which algorithms log what the report may want."""
_PLAIN = ("arm", "parent", "reasoning_format", "system", "reward")
"""What of a job is text already."""
_NOT_IN_FINGERPRINT = {"save_steps", "checkpoint_every_s", "keep_checkpoints", "launcher", "sweep", "options"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """All that determines a training; `arguments` and `from_arguments` carry it through a launcher's `Job`."""

    arm: str
    base: Path
    """Folder of the model that training starts from."""
    parent: str
    """Identity of that model."""
    dataset: Path
    """An exported dataset (`dataset.export`)."""
    folder: Path
    """Where the job works; the result lies in its subfolder `model`."""
    root: Path
    """The run's folder, which `Checkpoint.path` is relative to."""
    settings: TrainSettings
    reasoning_format: str = "auto"
    system: str = ""
    """The system prompt that the model is served with."""
    reward: str = ""
    """Identity of the reward, for an algorithm that samples (`reward.offer`)."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Plain JSON values for `kit.ports.Job.arguments`; the folder travels beside them."""
        paths = {name: str(getattr(self, name)) for name in ("base", "dataset", "root")}
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {**plain, **paths, "settings": self.settings.model_dump(mode="json")}

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any], *, folder: Path) -> TrainingJob:
        """The job that `arguments` describe."""
        paths = {name: Path(arguments[name]) for name in ("base", "dataset", "root")}
        plain = {name: str(arguments[name]) for name in _PLAIN}
        settings = TrainSettings.model_validate(arguments["settings"])
        return cls(**plain, **paths, folder=folder, settings=settings)  # type: ignore[arg-type]  # two typed dicts


def train(
    job: TrainingJob,
    *,
    identify: Callable[[Path], str],
    progress: Progress | None = None,
    reward: Reward | None = None,
) -> Checkpoint:
    """Train, or go on where a killed attempt stopped, or return the finished result at once.

    Under torchrun every process calls it; the first one writes the result and the others wait for it.

    Args:
        job: What to train, on what, where.
        identify: Model folder to model identity.
        progress: Called after each step in the first process; an exception from it stops the training, resumably.
        reward: Scores what the model samples, for an algorithm that does.

    Raises:
        SetupError: The fidelity gate objects, the loss diverged, or data, model and algorithm do not fit each other.
        Preempted: The process was told to stop (SIGTERM); called again, it goes on after the step that it was in.
    """
    algorithm = make_algorithm(job.settings)
    _check_group(job.settings)
    _settle()
    with exclusive(job.folder), quiet_libraries():
        prepared = prepare(job.dataset, job.base, job.reasoning_format, job.settings, algorithm, system=job.system)
        fingerprint = _fingerprint(job, algorithm, template=prepared.template.identity)
        finished = _finished(job, fingerprint=fingerprint, identify=identify)
        if finished is not None:
            return finished
        resumed = newest_sealed(job.folder / "checkpoints", fingerprint=fingerprint)
        started_s = time.monotonic() - (seconds_of(resumed) if resumed else 0.0)
        preemption = Preemption()
        sealer = Sealer(fingerprint=fingerprint, keep=job.settings.keep_checkpoints, started_s=started_s)
        callbacks = training_callbacks(
            progress=progress,
            sealer=sealer,
            preemption=preemption,
            checkpoint_every_s=job.settings.checkpoint_every_s,
        )
        trainer = _trainer(job, algorithm, prepared, callbacks=callbacks, reward=reward)
        with preemption, sealer:
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        preemption.check(num_steps=prepared.num_steps)
        return _conclude(job, prepared, trainer, fingerprint=fingerprint, started_s=started_s, identify=identify)


def _settle() -> None:
    import torch

    if not torch.cuda.is_available():  # with one, threads of the CPU serve optimisers that are offloaded to it
        settle_threads()


def _check_group(settings: TrainSettings) -> None:
    """`SetupError` where torchrun started another number of processes than the schedule was made for."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != settings.num_processes:
        rows = settings.batch_size * settings.gradient_accumulation
        raise SetupError(
            f"train.num_processes is {settings.num_processes}, and {world} were started: a step would take "
            f"{settings.batch_size} (batch_size) x {settings.gradient_accumulation} (gradient_accumulation) x {world} "
            f"(processes) = {rows * world} rows where {rows * settings.num_processes} were meant; set num_processes: "
            f"{world}, or start {settings.num_processes}"
        )


def _conclude(
    job: TrainingJob,
    prepared: Prepared,
    trainer: Any,
    *,
    fingerprint: str,
    started_s: float,
    identify: Callable[[Path], str],
) -> Checkpoint:
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    _export(job, trainer)
    checkpoint = Checkpoint(
        id=make_id("checkpoint", fingerprint),
        arm=job.arm,
        parent=job.parent,
        model=identify(job.folder / "model"),
        path=os.path.relpath(job.folder / "model", job.root),
        dataset=read_manifest(job.dataset).id,
        step=trainer.state.global_step,
        final_loss=_final_loss(losses, epochs=job.settings.epochs),
        metrics={
            **prepared.metrics,
            **_measured(trainer.state.log_history),
            "seconds": time.monotonic() - started_s,
            "first_loss": losses[0],
        },
    )
    if trainer.is_world_process_zero():
        _write_result(job.folder / _RESULT, checkpoint, fingerprint=fingerprint)
        shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
    return checkpoint


def _trainer(
    job: TrainingJob,
    algorithm: Algorithm,
    prepared: Prepared,
    *,
    callbacks: list[Any],
    reward: Reward | None,
) -> Any:
    from transformers import AutoModelForCausalLM, PrinterCallback

    from tracemend.trainer.arguments import peft_config, precision_of, training_arguments

    settings = job.settings
    arguments = training_arguments(settings, folder=job.folder / "checkpoints", num_steps=prepared.num_steps)
    # Full fine-tunes keep their weights in fp32 and compute in bf16: steps of 1e-5 would vanish in bf16's rounding.
    dtype = "bfloat16" if settings.lora and precision_of(settings) == "bf16" else "float32"
    model = AutoModelForCausalLM.from_pretrained(job.base, dtype=dtype, local_files_only=True)
    trainer = algorithm.trainer(
        TrainerInputs(
            rows=prepared.rows,
            pairs=prepared.pairs,
            schedule=prepared.schedule,
            model=model,
            tokenizer=prepared.tokenizer,
            template=prepared.template,
            parent=job.parent,
            shared=job.root / "references",
            peft=peft_config(settings.lora),
            arguments=arguments,
            callbacks=callbacks,
            settings=settings,
            reward=reward,
        )
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _export(job: TrainingJob, trainer: Any) -> None:
    from tracemend.trainer.exporting import write_model

    saved = job.folder / "saved"
    trainer.save_model(str(saved))
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        write_model(saved, base=job.base, out=job.folder / "model")
        _keep_adapter(saved, job.folder / "adapter")
    trainer.accelerator.wait_for_everyone()


def _keep_adapter(saved: Path, adapter: Path) -> None:
    """Adapters are kept beside the merged model, to be exported by themselves; full weights are in the model."""
    shutil.rmtree(adapter, ignore_errors=True)
    if (saved / "adapter_config.json").is_file():
        saved.replace(adapter)
    else:
        shutil.rmtree(saved)


def _measured(history: list[dict[str, Any]]) -> dict[str, float]:
    """What an algorithm logged beside the loss, at the first and at the last step."""
    steps = [entry for entry in history if "loss" in entry]
    names = [name for name in steps[0] if name.split("/")[0] in _MEASURES]
    return {
        f"{when}/{name}": float(entry[name])
        for when, entry in (("first", steps[0]), ("last", steps[-1]))
        for name in names
        if name in entry
    }


def _final_loss(losses: list[float], *, epochs: int) -> float:
    """Mean loss over the steps of the last epoch."""
    last = losses[-max(1, len(losses) // epochs) :]
    return sum(last) / len(last)


def _fingerprint(job: TrainingJob, algorithm: Algorithm, *, template: str) -> str:
    """What the trained weights are a function of; where it runs and how often it saves are not in it."""
    settings = job.settings.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT)
    served = {"system": job.system} if job.system else None  # apart from a reward, which is text as well
    more = [value for value in (algorithm.options, job.reward, served) if value]
    return digest_of([settings, job.parent, read_manifest(job.dataset).digest, template, *more])


def _finished(job: TrainingJob, *, fingerprint: str, identify: Callable[[Path], str]) -> Checkpoint | None:
    """The result of an earlier attempt, if it is of this very training and its model folder is as it was."""
    path = job.folder / _RESULT
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    checkpoint = Checkpoint(**result["checkpoint"])
    if result["fingerprint"] != fingerprint:
        return None
    try:
        model = identify(job.folder / "model")
    except SetupError:
        return None
    return checkpoint if model == checkpoint.model else None


def _write_result(path: Path, checkpoint: Checkpoint, *, fingerprint: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump({"fingerprint": fingerprint, "checkpoint": asdict(checkpoint)}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
