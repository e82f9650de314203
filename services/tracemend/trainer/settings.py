"""What a run file may say about building a dataset (`assemble`) and training on it (`train`), for every arm.

Read by the coordinator and by training jobs. Values are what the methods need, never what a library happens to default
to; the ones that TRL or transformers would choose silently (length, truncation, template, mask) are spelt out here and
checked by `fidelity` before any step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from tracemend.kit.settings import Section

ObjectionName: TypeAlias = Literal[
    "not_renderable",
    "prompt_not_served",
    "reasoning_dropped",
    "closing_tag_missing",
    "parser_disagrees",
    "reasoning_outside_loss",
    "prompt_in_loss",
    "end_not_taught",
    "too_long",
    "beyond_context",
    "unknown_tokens",
]
"""What the fidelity gate may object to; `fidelity` says what each means."""

PairObjectionName: TypeAlias = Literal[
    "prompt_not_served",
    "prefix_differs",
    "text_differs",
    "nothing_to_prefer",
    "span_not_closed",
    "span_without_end",
    "pair_too_long",
    "pair_beyond_context",
    "pair_unknown_tokens",
]
"""What it may object to in pairs; `pair_fidelity` says what each means."""

AnyObjectionName: TypeAlias = ObjectionName | PairObjectionName


class AssembleSettings(Section):
    """Which outcomes become rows. Shares are of the dataset's rows; the rest of them is harmful prompts."""

    kind: Literal["examples", "pairs"] = "examples"
    """`examples`: what to write, for supervised training. `pairs`: what to prefer to what, for preference training."""
    rows: int | None = Field(default=None, ge=1)
    """Rows to publish; none for as many as the shares allow."""
    benign_share: float = Field(default=1 / 3, ge=0, le=1)
    """Rows of benign and look-alike prompts, which keep the model helpful. Left out, a third for examples; for pairs
    none, and three quarters where `pairs_from` is set (methods.md §12.2 leaves the mix open [X])."""
    reasoning_share: float = Field(default=0.0, ge=0, le=1)
    """Rows of prompts with a checkable answer."""
    subset: Literal["all", "random", "selected"] = "all"
    """How harmful rows are chosen where there are more than wanted: `selected` spreads them over their tags, the others
    draw by seed."""
    spread: tuple[str, ...] = ()
    """Tags that `selected` spreads over, `source` and `category` included; none for the source and every tag."""
    match: tuple[str, ...] = ()
    """Arms that this one is cut to the same number of rows with."""
    rows_of: str = ""
    """The arm whose rows these are, in this arm's own form: of harmful prompts the same units, of benign ones the same
    prompts. So a supervised arm sees exactly what a preference arm sees; shares, `rows` and `match` are that arm's."""
    units_of: str = ""
    """The arm whose units give the rows; an arm with it has no `correct` section of its own. So a later stage of
    supervised training can take what was made of the base's samples, whichever model it starts from."""
    pairs_from: str = ""
    """The arm whose units give the harmful pairs; left out, this one. A second stage takes the first one's."""
    answers_from: str = ""
    """The arm whose kept answers are preferred to this arm's refusals; left out, `pairs_from`."""
    rows_per_shard: int = Field(default=50_000, ge=1)
    seed: int = 0

    @property
    def others(self) -> tuple[str, ...]:
        """Arms whose units or rows decide this one's."""
        named = (*self.match, self.rows_of, self.units_of, self.pairs_from, self.answers_from)
        return tuple(dict.fromkeys(name for name in named if name))

    @model_validator(mode="before")
    @classmethod
    def _share_of_pairs(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("kind") == "pairs" and "benign_share" not in given:
            return {**given, "benign_share": 0.75 if given.get("pairs_from") else 0.0}
        return given

    @model_validator(mode="after")
    def _shares_leave_room(self) -> AssembleSettings:
        if self.benign_share + self.reasoning_share > 1:
            raise ValueError("benign_share and reasoning_share add up to more than 1: lower one of them")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> AssembleSettings:
        if self.kind != "pairs" and (self.pairs_from or self.answers_from):
            raise ValueError("pairs_from and answers_from are for pairs: set kind: pairs, or leave them out")
        if self.kind == "pairs" and self.reasoning_share:
            raise ValueError("reasoning tasks give no pairs: leave reasoning_share out")
        if self.rows_of and (self.rows is not None or self.match or self.subset != "all"):
            raise ValueError("rows_of takes the rows of another arm as they are: leave out rows, match and subset")
        return self


class LoraSettings(Section):
    """Low-rank adapters in place of a full fine-tune; merged into the weights on export."""

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of the linear layers that get an adapter; `all-linear` alone stands for all of them."""


class SweepSettings(Section):
    """Train once per learning rate and keep the checkpoint that is best on a validation split."""

    learning_rate: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    metric: str = "harm_reasoning"
    """What is made least, as measured on validation prompts."""
    at_most: dict[str, float] = Field(default_factory=dict)
    """Limits that a candidate must keep to be eligible, metric to value: `{over_refusal: 0.1}`."""
    at_least: dict[str, float] = Field(default_factory=dict)
    """The same from below: `{capability: 0.9}`."""
    at_most_over_base: dict[str, float] = Field(default_factory=dict)
    """Limits on how much a metric may rise above the base model's: `{over_refusal: 0.15}`."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that a candidate is chosen by."""
        return (self.metric, *self.at_most, *self.at_least, *self.at_most_over_base)

    def rank(self, values: Mapping[str, float], *, base: Mapping[str, float]) -> tuple[bool, float]:
        """Where a candidate with these metric values stands; the least is best. Those that keep every limit come first,
        by `metric`; the others by how far they are off. A metric without a value counts as its worst. `base` holds the
        base model's values, for the limits that go by them."""
        off = [values.get(name, 1.0) - limit for name, limit in self.at_most.items()]
        off += [values.get(name, 1.0) - base.get(name, 0.0) - limit for name, limit in self.at_most_over_base.items()]
        off += [limit - values.get(name, 0.0) for name, limit in self.at_least.items()]
        excess = sum(max(0.0, distance) for distance in off)
        return (excess > 0, excess if excess > 0 else values.get(self.metric, 1.0))


class TrainSettings(Section):
    """How an arm's model is trained on its dataset."""

    algorithm: str = "sft"
    options: dict[str, Any] = Field(default_factory=dict)
    """The algorithm's own options; its module documents them."""
    learning_rate: float = Field(default=1e-5, gt=0)
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=8, ge=1)
    """Rows per device and forward pass."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Forward passes per optimiser step."""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(default=1e-4, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.95)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    seed: int = 0

    max_length: int | Literal["auto"] = 8192
    """Longest row in tokens, prompt and response; `auto` fits the longest row."""
    truncation: Literal["drop", "keep_start"] = "drop"
    """What happens to longer rows, as far as `truncation_share` allows them: left out, or cut at the end."""
    truncation_share: float = Field(default=0.0, ge=0, le=1)
    """Share of rows that may be longer than `max_length`."""
    render: Literal["chat", "model_template", "plain"] = "chat"
    """`chat`: exactly what the model would be served and would write. `model_template`: the tokenizer's own rendering
    of an assistant turn. `plain`: prompt, newline, response without a template. The last two exist to reproduce
    published recipes."""
    teach_end: bool = True
    """Whether a response ends with the end token."""
    train_on_prompt: bool = False
    """Whether the prompt's tokens count in the loss."""
    overrides: tuple[AnyObjectionName, ...] = ()
    """Objections of the fidelity gate that this run accepts, by name."""

    lora: LoraSettings | None = None
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """`auto`: on with a GPU."""
    deepspeed: Literal["none", "zero1", "zero2", "zero3"] = "none"
    offload: bool = False
    """Keep optimiser state (ZeRO-3: parameters too) in main memory."""
    launcher: Literal["inline", "subprocess"] = "inline"
    num_processes: int = Field(default=1, ge=1)
    save_steps: int = Field(default=50, ge=1)
    """Optimiser steps between checkpoints."""
    # It is left out of dumps where it is not used: they are in the digests of trainings.
    checkpoint_every_s: float | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    """Seconds after which a checkpoint is written as well, however few steps were taken since the last one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    sweep: SweepSettings | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> TrainSettings:
        alone = self.launcher == "inline"
        if alone and (self.num_processes > 1 or self.deepspeed != "none"):
            raise ValueError("several processes and DeepSpeed need a process of their own: set launcher: subprocess")
        if self.offload and self.deepspeed not in ("zero2", "zero3"):
            raise ValueError("offload needs deepspeed: zero2 or zero3")
        return self

    def candidates(self) -> tuple[TrainSettings, ...]:
        """One setting per learning rate of the sweep, or this one where there is no sweep."""
        if self.sweep is None:
            return (self,)
        return tuple(
            self.model_copy(update={"learning_rate": rate, "sweep": None}) for rate in self.sweep.learning_rate
        )
