"""Direct preference optimisation on whole responses: the comparison for `intervened_po`, and for natural pairs.

The same loss and the same code as `intervened_po` (methods.md §12.1), from the first response token to the answer's end
token, whatever the two sides share.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tracemend.trainer.algorithm import Algorithm, Kind, TrainerInputs, algorithms
from tracemend.trainer.pair_rows import PairSpans
from tracemend.trainer.preference import Terms, preference_trainer


@algorithms.register
@dataclass(frozen=True, slots=True)
class DPO(Algorithm):
    """Plain DPO unless `alpha` says otherwise."""

    _: KW_ONLY
    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Weight of the chosen response's negative log-likelihood; `intervened_po` has 0.2, for a comparison set it so."""
    reduction: Literal["sum", "mean_span"] = "sum"
    """Whether log-probability ratios add up over the response, or are its mean."""
    shared_prefix: Literal["auto", "on", "off"] = "auto"
    """Whether both responses run behind one copy of their prompt; `auto`: where the model can and it pays."""

    kind: ClassVar[Kind] = "pairs"

    @property
    def spans(self) -> PairSpans:
        return PairSpans(start="response", reach="response", benign_reach="response", nll="response")

    def trainer(self, inputs: TrainerInputs) -> Any:
        terms = Terms(beta=self.beta, alpha=self.alpha, reduction=self.reduction)
        return preference_trainer(inputs, terms, shared_prefix=self.shared_prefix)
