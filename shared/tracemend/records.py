"""The nouns that every part speaks: frozen records that pass between stages and rest in stores.

Each record has a message of the same name and fields in `protos/tracemend/api/records/v1`; `wire` copies between the
two by field name, and a test keeps them equal. Text that a prompt or a model wrote is `Text`, which prints as a digest.
Token positions index a trajectory's own token ids; character positions index the text that they name. Spans are
half-open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tracemend.redaction import Text


class Category(StrEnum):
    """What a prompt is for; it decides which axis its trajectories are judged on."""

    HARMFUL = "harmful"
    """A request that should be refused or safely completed (axis: harm)."""
    BENIGN = "benign"
    """A harmless request that should be answered (axis: refusal)."""
    LOOKALIKE = "lookalike"
    """A harmless request that looks harmful, XSTest-style (axis: refusal)."""
    REASONING = "reasoning"
    """A task with a checkable answer in `reference` (axis: correctness)."""


class Axis(StrEnum):
    """What a verdict measures. `SAFE` always is the wanted end: harmless, complied or correct."""

    HARM = "harm"
    REFUSAL = "refusal"
    CORRECTNESS = "correctness"


class Value(StrEnum):
    """A verdict's value. A reply that does not parse is `UNKNOWN`, never `SAFE`."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    UNKNOWN = "unknown"


class Part(StrEnum):
    """The part of a trajectory that a judgement is about."""

    REASONING = "reasoning"
    ANSWER = "answer"
    WHOLE = "whole"


class Finish(StrEnum):
    """Why an engine stopped writing."""

    STOP = "stop"
    LENGTH = "length"
    FILTERED = "filtered"
    """The provider's content filter withheld the completion."""
    DEAD = "dead"
    """The work was dead-lettered; the text is empty."""


class Parse(StrEnum):
    """How the text split into reasoning and answer."""

    CLOSED = "closed"
    """Both tags, or the closing tag alone where the template opens the block."""
    UNCLOSED = "unclosed"
    """The reasoning never ended: everything is reasoning, there is no answer."""
    NO_TAGS = "no_tags"
    """A plain answer without a reasoning block."""


class OutcomeState(StrEnum):
    """The one end of a unit."""

    KEPT = "kept"
    CORRECTED = "corrected"
    NOT_SELECTED = "not_selected"
    GAVE_UP = "gave_up"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request to the target, with where it came from and what answer a checker expects."""

    id: str
    """Content digest and occurrence: equal text has equal ids wherever it is read."""
    text: Text
    category: Category
    source: str = ""
    licence: str = ""
    split: str = "train"
    tags: dict[str, str] = field(default_factory=dict)
    """Whatever the source knows beside the text: harm category, wrapper, subset."""
    reference: Text = Text("")
    """The expected answer of a `REASONING` prompt, in the words of its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an engine draws tokens. Temperature 0 is greedy; `top_k` 0 is off."""

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One sample to draw: a prompt, and token ids that the response must begin with (empty for a fresh sample)."""

    id: str
    prompt: Prompt
    model: str
    """Identity of the target: digest of its weights and template, not its address."""
    sampling: Sampling
    sample: int
    """Index among the prompt's K samples."""
    seed: int
    prefix_tokens: tuple[int, ...] = ()
    """Response ids to continue from. The generator appends the ids of `intervention.payload`: it has the tokenizer."""
    parent: str = ""
    """The trajectory that this one forks from."""
    round: int = 0
    intervention: Intervention | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A half-open range of positions."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One sentence or line of a reasoning; joined, the steps of a text give it back byte for byte."""

    ordinal: int
    """Counted from 1, as detectors number sentences."""
    chars: Span
    """In the segmented text."""
    tokens: Span
    """In the trajectory's token ids: the smallest token range that covers `chars`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """What was done to a trajectory to make the next one."""

    kind: str
    """`rewrite`, `policy`, `solve` or `trigger`."""
    strategy: str
    producer: str = ""
    """Identity of the model or pool that the new text came from."""
    payload: Text = Text("")
    """The inserted trigger, where there is one."""
    cut_token: int = 0
    """Response token at which the new text begins; 0 for a rewrite from the start."""
    attempt: int = 0
    variant: str = ""
    failure: str = ""
    """Why the producer gave no usable text, as a reason code: refused, withheld, malformed, cut off, given up."""
    scores: dict[str, int] = field(default_factory=dict)
    """What a rubric gave the new text, by criterion; empty where none was asked or its reply could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One reasoning and answer, sampled or rewritten: a node in a tree of forks."""

    id: str
    request: str
    prompt: Prompt
    sample: int
    model: str
    """Identity of the model that wrote it."""
    reasoning: Text
    answer: Text
    parse: Parse
    finish: Finish
    token_ids: tuple[int, ...] = ()
    """The response's ids as the engine gave them; empty where the engine has none to give (rewrites, endpoints)."""
    reasoning_tokens: Span = field(default_factory=lambda: Span(start=0, end=0))
    answer_tokens: Span = field(default_factory=lambda: Span(start=0, end=0))
    parent: str = ""
    round: int = 0
    intervention: Intervention | None = None
    num_prompt_tokens: int = 0
    num_new_tokens: int = 0
    seconds: float = 0.0
    """Share of engine time spent on it; not part of any id or digest."""
    money: float = 0.0
    """What a paid endpoint asked for it, in the currency of the price that was configured."""
    num_cached_tokens: int = 0
    """Prompt tokens, the kept response included, that the engine did not compute again."""

    @property
    def is_finished(self) -> bool:
        """Whether the model ended by itself with the reasoning closed."""
        return self.finish is Finish.STOP and self.parse is not Parse.UNCLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one judge says of one part of a trajectory."""

    part: Part
    value: Value
    judge: str
    """Name and configuration digest of the judge."""
    score: float = -1.0
    """The judge's own score where it has one (its module says the range); -1 for none."""
    labels: tuple[str, ...] = ()
    """Category codes, refusal class, reason codes."""
    raw: Text = Text("")
    """The judge's reply, kept for re-reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """What a detector says of a reasoning: the step at which it first turns towards complying (methods.md §8 [P])."""

    detector: str
    """Name and configuration digest of the detector."""
    step: int
    """Ordinal of the first compliance cue's step; 0 where there is none, -1 where the detector could not tell."""
    num_steps: int = 0
    char: int = -1
    """Where that step begins in the reasoning; -1 without a cue."""
    token: int = -1
    """The cut h: how many response ids to keep so that nothing of the step is kept; -1 without a cue or without ids."""
    labels: tuple[str, ...] = ()
    """Reason codes: why the detector could not tell, what a rule matched."""
    raw: Text = Text("")
    """The detector's reply, kept for re-reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgements on a trajectory, reasoning and answer apart, and the trajectory itself."""

    id: str
    axis: Axis
    trajectory: Trajectory
    reasoning: Judgement
    answer: Judgement
    whole: Judgement
    cue: Cue | None = None
    """None where no detector was asked."""

    def of(self, part: Part) -> Judgement:
        """The judgement on `part`."""
        return {Part.REASONING: self.reasoning, Part.ANSWER: self.answer, Part.WHOLE: self.whole}[part]

    def value(self, parts: tuple[Part, ...]) -> Value:
        """Unsafe if any of `parts` is, else unknown if any of them is, else safe."""
        values = {self.of(part).value for part in parts}
        return next((v for v in (Value.UNSAFE, Value.UNKNOWN) if v in values), Value.SAFE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All K verdicts on one prompt's samples, in sample order: what rules over siblings decide on."""

    id: str
    prompt: Prompt
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The unit of account: what must end in exactly one outcome. The run is the ledger's, not the unit's."""

    arm: str
    prompt: str
    sample: int = -1
    """-1 where the unit stands for the prompt and not for one of its samples."""
    variant: str = ""
    """The draft for policy generation, the trigger for interventions, else none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteRequest:
    """A strong model is asked to write a trajectory anew."""

    id: str
    verdict: Verdict
    """What went wrong, with the trajectory that is to be mended."""
    strategy: str
    attempt: int
    variant: str
    settings: str
    """Digest of the arm's `correct` section, of our wording of it and of the models that it names."""
    feedback: str = ""
    """Reason code of why the attempt before this one was not accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a unit ended, with the row that training may use."""

    id: str
    unit: Unit
    state: OutcomeState
    reason: str = ""
    final: Verdict | None = None
    """The verdict on the trajectory to train on (`KEPT`, `CORRECTED`)."""
    original: Verdict | None = None
    """The verdict on the trajectory that was mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One supervised row."""

    id: str
    unit: Unit
    prompt: Prompt
    reasoning: Text
    answer: Text
    state: OutcomeState
    strategy: str
    original_reasoning: Text = Text("")
    original_answer: Text = Text("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A preference row whose two sides share their first `prefix_tokens` response ids (methods.md §11 [P])."""

    id: str
    unit: Unit
    prompt: Prompt
    chosen_tokens: tuple[int, ...]
    """Response ids, the end token included."""
    rejected_tokens: tuple[int, ...]
    prefix_tokens: int
    """h: where the two sides part; 0 where they share nothing but the prompt."""
    trigger: Text = Text("")
    round: int = 0
    """Interventions that it took."""
    kind: str
    """`intervened` (a fork against what it was cut from), `natural` (two samples of a prompt) or `benign` (an answer
    against a refusal)."""
    chosen: Text
    """The response as the model writes it, tags included."""
    rejected: Text
    detector: str = ""
    judge: str = ""
    """Identity of the judge that found the rejected side unsafe."""
    verifier: str = ""
    """Identity of the judge that accepted the chosen side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetManifest:
    """What a dataset version holds; its digest is over canonical rows, without run ids, times or costs."""

    id: str
    arm: str
    kind: str
    """`examples` or `pairs`."""
    digest: str
    num_rows: int
    shards: tuple[str, ...]
    """Blob digests of the Parquet shards, in order."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by state, category, source and licence, and what assembly cut, as `state/kept`, `cut/duplicate`, …"""
    judges: dict[str, str] = field(default_factory=dict)
    """Axis to judge identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained model folder, addressed by the digest of its files."""

    id: str
    arm: str
    parent: str
    """Identity of the model that training started from."""
    model: str
    """Identity of the trained model."""
    path: str
    """Where it lies, relative to the run's folder."""
    dataset: str
    step: int
    final_loss: float
    metrics: dict[str, float] = field(default_factory=dict)
