"""What the training loop tells us while it runs: every step's loss, and every checkpoint as it is written.

`training` adds these to whichever trainer an algorithm builds. A loss that is no number stops the training at once:
what follows would be paid for and thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tracemend.kit.errors import SetupError
from tracemend.trainer.checkpoints import prune, seal

Progress: TypeAlias = Callable[[int, int, float], None]
"""Called after every optimiser step with (step, num_steps, loss); it may raise to stop the training."""


def training_callbacks(*, progress: Progress | None, fingerprint: str, keep: int) -> list[Any]:
    """The callbacks for one training: progress first, sealing second."""
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

    class SealCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Seals each checkpoint once every process has written its part, then removes old ones."""

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _wait_for_all()
            if state.is_world_process_zero:
                folder = Path(args.output_dir)
                checkpoint = folder / f"checkpoint-{state.global_step}"
                seal(checkpoint, fingerprint=fingerprint)
                prune(folder, newest=checkpoint, keep=keep)
            _wait_for_all()

    return [ReportSteps(), SealCheckpoints()]


def _wait_for_all() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
