"""Scoring the candidates of a sweep on the validation prompts, and the base where a limit goes by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracemend.embedded.measuring import Measurer
from tracemend.embedded.models import Target
from tracemend.embedded.runfile import BASE
from tracemend.evaluator.service import headline
from tracemend.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """Implements `arms.Score`; each model is measured once, as a phase of the run."""

    measurer: Measurer
    prompts: Sequence[Prompt]
    target: Target
    """The base."""

    async def candidate(self, name: str, target: Target, identity: str) -> dict[str, float]:
        verdicts = await self.measurer.measure(
            name, target=target, identity=identity, prompts=self.prompts, what="validate"
        )
        return headline(verdicts)

    async def base(self) -> dict[str, float]:
        return await self.candidate(BASE, self.target, self.target.identity)
