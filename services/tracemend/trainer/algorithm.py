"""What a training algorithm plug-in is: a function from prepared rows and a loaded model to a TRL trainer.

TRL's trainers carry the loop; a plug-in brings data preparation and loss terms, and never a loop of its own. Order of
rows, length, mask, checkpoints, progress and export are the same for all of them and belong to `training`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tracemend.kit.registry import Registry
from tracemend.trainer.rendering import TokenRow
from tracemend.trainer.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerInputs:
    """What a plug-in builds its trainer from."""

    rows: Sequence[TokenRow]
    """Gated and cut."""
    schedule: Sequence[int]
    """Indices into `rows` in the order in which they are trained on, all epochs joined."""
    model: Any
    tokenizer: Any
    peft: Any
    """A peft configuration, or None for a full fine-tune."""
    arguments: Mapping[str, Any]
    """Keyword arguments of transformers' `TrainingArguments` that are the same for every algorithm."""
    callbacks: Sequence[Any]
    settings: TrainSettings


Algorithm: TypeAlias = Callable[[TrainerInputs], Any]
"""An algorithm plug-in: returns a transformers `Trainer` that goes through `schedule` once, in order."""

algorithms: Registry[Algorithm] = Registry(
    "algorithm", package="tracemend.trainer.algorithms", group="tracemend.algorithms"
)
