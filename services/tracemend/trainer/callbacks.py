"""What the training loop tells us while it runs: every step's loss, and every checkpoint as it is written.

`training` adds these to whichever trainer an algorithm builds. A loss that is no number stops the training at once:
what follows would be paid for and thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tracemend.kit.errors import SetupError
from tracemend.trainer.checkpoints import drop_beyond
from tracemend.trainer.preemption import Preemption, any_of_group
from tracemend.trainer.sealing import Sealer

Progress: TypeAlias = Callable[[int, int, float], None]
"""Called after every optimiser step with (step, num_steps, loss); it may raise to stop the training."""


def training_callbacks(
    *, progress: Progress | None, sealer: Sealer, preemption: Preemption, checkpoint_every_s: float | None
) -> list[Any]:
    """The callbacks for one training: progress first, checkpoints second."""
    from transformers import TrainerCallback

    class ReportSteps(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Hands on each step's loss."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            if not math.isfinite(loss):
                raise SetupError(
                    f"the loss became {loss} at step {state.global_step}: lower train.learning_rate or use fp32"
                )
            if progress is not None and state.is_world_process_zero:
                progress(state.global_step, state.max_steps, float(loss))

    class KeepCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Asks for a checkpoint when one is due by the clock or the training is to stop, and has each one sealed once
        every process has written its part."""

        def __init__(self) -> None:
            self._saved_s = time.monotonic()

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _wait_for_all()  # each of them has chosen what it resumes from
            if state.is_world_process_zero:
                drop_beyond(Path(args.output_dir), step=state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if checkpoint_every_s is not None:
                control.should_save |= any_of_group(time.monotonic() - self._saved_s >= checkpoint_every_s)
            if preemption.stops_after(state.global_step):
                control.should_save = control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _wait_for_all()
            self._saved_s = time.monotonic()
            if state.is_world_process_zero:
                sealer.take(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    return [ReportSteps(), KeepCheckpoints()]


def _wait_for_all() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
