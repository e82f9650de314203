"""Intervened preference optimisation: DPO from the cut on, and likelihood of the mended side (methods.md §12.1 [P]).

It learns from pairs that share their reasoning up to the compliance cue; the trigger's tokens are in the loss, so the
model learns to write triggers itself. A second stage is a training of its own, on benign pairs mixed with harmful ones,
that starts from the first stage's checkpoint and has it as its reference (§12.2). With `reduction: sum`, the preference
term is equal to DPO's on whole responses over the same tokens (§12.3 [D]): partial and full differ by what else the
options say, never by the cut itself.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tracemend.trainer.algorithm import Algorithm, Kind, TrainerInputs, algorithms
from tracemend.trainer.pair_rows import PairSpans, Reach
from tracemend.trainer.preference import Terms, preference_trainer


@algorithms.register
@dataclass(frozen=True, slots=True)
class IntervenedPO(Algorithm):
    """The defaults are methods.md §12.4's; β and the spans are [X], α is [P?]."""

    _: KW_ONLY
    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.2
    """Weight of the chosen side's negative log-likelihood, a mean over its tokens."""
    reduction: Literal["sum", "mean_span"] = "sum"
    """Whether log-probability ratios add up over the span, or are its mean (β then wants to be larger)."""
    dpo_span: Reach = "reasoning"
    """Where the preference ends: after the reasoning's closing tag, or after the answer's end token."""
    benign_span: Reach = "response"
    """The same for benign pairs, an answer against a refusal."""
    nll_span: Literal["span", "response"] = "span"
    """What the likelihood covers: the preference's span, or the whole chosen response, its shared prefix included."""
    shared_prefix: Literal["auto", "on", "off"] = "auto"
    """Whether both sides run behind one copy of what they share; `auto`: where the model can and it pays."""

    kind: ClassVar[Kind] = "pairs"

    @property
    def spans(self) -> PairSpans:
        return PairSpans(reach=self.dpo_span, benign_reach=self.benign_span, nll=self.nll_span)

    def trainer(self, inputs: TrainerInputs) -> Any:
        terms = Terms(beta=self.beta, alpha=self.alpha, reduction=self.reduction)
        return preference_trainer(inputs, terms, shared_prefix=self.shared_prefix)
