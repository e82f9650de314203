"""What a training algorithm plug-in is: its options, the kind of rows it learns from, and how it makes a TRL trainer.

TRL's trainers carry the loop; a plug-in brings data preparation and loss terms, and never a loop of its own. Order of
rows, length, mask, checkpoints, progress and export are the same for all of them and belong to `training`. A plug-in is
a pydantic dataclass whose options are keyword-only, so that `train.options` is checked against them.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import ValidationError

from tracemend.kit.errors import SetupError
from tracemend.kit.registry import Registry
from tracemend.records import Example
from tracemend.trainer.pair_rows import PairRow, PairSpans
from tracemend.trainer.rendering import Template, TokenRow
from tracemend.trainer.reward import Reward
from tracemend.trainer.settings import TrainSettings

Kind: TypeAlias = Literal["examples", "pairs"]
"""What a dataset holds (`DatasetManifest.kind`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerInputs:
    """What a plug-in builds its trainer from."""

    rows: Sequence[TokenRow] = ()
    """Gated and cut; empty for a plug-in that learns from pairs."""
    pairs: Sequence[PairRow] = ()
    """Gated; empty for a plug-in that learns from examples."""
    schedule: Sequence[int]
    """Indices into `rows` or `pairs` in the order in which they are trained on, all epochs joined."""
    model: Any
    tokenizer: Any
    template: Template
    parent: str
    """Identity of the model that training starts from."""
    shared: Path
    """A folder of the run, where what several trainings have in common is kept."""
    peft: Any
    """A peft configuration, or None for a full fine-tune."""
    arguments: Mapping[str, Any]
    """Keyword arguments of transformers' `TrainingArguments` that are the same for every algorithm."""
    callbacks: Sequence[Any]
    settings: TrainSettings
    reward: Reward | None = None
    """What scores sampled responses, where whoever composed the training gave one."""


@dataclass(frozen=True, slots=True)
class Algorithm(ABC):
    """Base of algorithms."""

    kind: ClassVar[Kind] = "examples"
    samples: ClassVar[bool] = False
    """Whether it samples from the model in training, and so needs a reward."""

    @property
    def options(self) -> dict[str, Any]:
        """Every option with its value: what, beside `TrainSettings`, the trained weights are a function of."""
        return dataclasses.asdict(self)

    @property
    def spans(self) -> PairSpans:
        """Which tokens of a pair's responses count, for an algorithm that learns from pairs."""
        raise AssertionError(f"{type(self).__name__} does not learn from pairs")

    def chosen(self, examples: Sequence[Example]) -> list[Example]:
        """The rows of a dataset of examples that it learns from."""
        return list(examples)

    def rows_per_step(self, settings: TrainSettings) -> int:
        """Rows of one optimiser step."""
        return settings.batch_size * settings.gradient_accumulation * settings.num_processes

    @abstractmethod
    def trainer(self, inputs: TrainerInputs) -> Any:
        """A transformers `Trainer` that goes through `inputs.schedule` once, in order."""


AlgorithmFactory: TypeAlias = Callable[..., Any]
"""A subclass of `Algorithm`, or a function that takes the same options and returns one."""

algorithms: Registry[AlgorithmFactory] = Registry(
    "algorithm", package="tracemend.trainer.algorithms", group="tracemend.algorithms"
)


def make_algorithm(settings: TrainSettings) -> Algorithm:
    """The algorithm that `settings` name, with their options; a `SetupError` where name, option or value is wrong."""
    name = settings.algorithm
    try:
        algorithm: Algorithm = algorithms.create(name, **settings.options)
    except ValidationError as error:
        faults = "; ".join(f"option '{fault['loc'][0]}': {fault['msg']}" for fault in error.errors())
        raise SetupError(f"algorithm '{name}': {faults}") from None
    return algorithm
