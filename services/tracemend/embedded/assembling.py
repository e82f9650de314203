"""Whose outcomes an arm's dataset is made of, and the dataset itself. `arms` publishes through it.

An arm may be cut to the size of others (`match`), take their rows (`rows_of`), their pairs (`pairs_from`) or their
answers (`answers_from`); a dataset is made anew when any outcome or section that it reads changes. The plan's order has
these arms' units concluded first.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from tracemend.embedded.models import Target
from tracemend.embedded.plan import Plan
from tracemend.embedded.workspace import Workspace
from tracemend.kit.ids import digest_of
from tracemend.records import DatasetManifest, Outcome, OutcomeState
from tracemend.trainer import dataset
from tracemend.trainer.assembly import Assembled, assemble, assemble_like, available_rows, matched_rows
from tracemend.trainer.candidates import Candidates
from tracemend.trainer.example_table import EXAMPLES
from tracemend.trainer.examples import usable_examples
from tracemend.trainer.pair_table import PAIRS
from tracemend.trainer.pairs import REFUSED, PairSources, usable_pairs
from tracemend.trainer.serving import Serving
from tracemend.trainer.settings import AssembleSettings

_USABLE = (OutcomeState.KEPT, OutcomeState.CORRECTED)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Assembler:
    """The datasets of one run's arms."""

    workspace: Workspace
    run: str
    plan: Plan
    judges: dict[str, str]

    async def inputs(self, arm: str, *, target: Target) -> list[Any]:
        """What the arm's dataset is a function of: outcomes and sections, its own and those of the arms it reads."""
        read = self.plan.read_by(arm)
        found: list[Any] = [
            [name, await self._outcome_digest(name), self._settings(name).model_dump(mode="json")] for name in read
        ]
        if any(self._settings(name).kind == "pairs" for name in read):
            found.append([target.identity, target.settings.system, target.settings.reasoning_format])
        return found

    async def publish(self, arm: str, *, target: Target) -> DatasetManifest:
        """Assemble the arm's rows and store them. `target` is the model that training starts from."""
        settings = self._settings(arm)
        row_of = {item.prompt: item.row async for item in self.workspace.ledger.admitted(self.run)}
        rows = _Rows(assembler=self, target=target, row_of=row_of)
        assembled: Assembled[Any] = await rows.of(arm)
        if settings.kind == "pairs":
            serving = await rows.serving()
            served = tuple(serving.serve(pair) for pair in assembled.rows)
            assembled = Assembled(rows=served, cuts=assembled.cuts)
        return await dataset.publish(
            self.workspace.store,
            assembled,
            PAIRS if settings.kind == "pairs" else EXAMPLES,
            arm=arm,
            judges=self.judges,
            rows_per_shard=settings.rows_per_shard,
        )

    async def outcomes(self, arm: str, *states: OutcomeState, reason: str = "") -> list[Outcome]:
        """The outcomes in these states (all, without any), and with this reason if one is given, that the arm's rows
        come from: of the arm that owns its units."""
        wanted = {state.value for state in states or OutcomeState}
        found: list[Outcome] = []
        async for unit in self.workspace.ledger.outcomes(self.run, arm=self.plan.owners[arm]):
            if unit.state in wanted and reason in ("", unit.reason):
                ((_, outcome),) = await self.workspace.results.read(unit.address)
                found.append(outcome)
        return found

    def _settings(self, arm: str) -> AssembleSettings:
        return self.plan.run.arms[arm].assemble

    async def _outcome_digest(self, arm: str) -> str:
        units = [
            (u.unit.prompt, u.unit.sample, u.unit.variant, u.epoch, u.state, u.address.digest)
            async for u in self.workspace.ledger.outcomes(self.run, arm=self.plan.owners[arm])
        ]
        return digest_of(sorted(units))


@dataclasses.dataclass(slots=True, kw_only=True)
class _Rows:
    """One assembly: an arm's rows, and on the way those of the arms that decide them."""

    assembler: Assembler
    target: Target
    row_of: dict[str, int]
    _serving: Serving | None = None

    async def of(self, arm: str) -> Assembled[Any]:
        settings = self._settings(arm)
        candidates = await self._candidates(arm)
        if settings.rows_of:
            model = await self.of(settings.rows_of)
            return assemble_like(candidates, model.rows, arm=arm, other=settings.rows_of)
        limit = None
        if settings.match:
            available = {arm: available_rows(candidates)}
            for other in settings.match:
                if other not in available:
                    available[other] = available_rows(await self._candidates(other))
            limit = matched_rows(available, {name: self._settings(name) for name in available})
        return assemble(candidates, settings, arm=arm, limit_rows=limit)

    async def serving(self) -> Serving:
        """The model whose ids the pairs hold."""
        if self._serving is None:
            settings = self.target.settings
            self._serving = await asyncio.to_thread(
                Serving.load,
                self.target.trainable_folder(),
                reasoning_format=settings.reasoning_format,
                system=settings.system,
            )
        return self._serving

    async def _candidates(self, arm: str) -> Candidates[Any]:
        settings, outcomes = self._settings(arm), self.assembler.outcomes
        if settings.kind == "examples":
            return usable_examples(await outcomes(arm, *_USABLE), arm=arm, row_of=self.row_of)
        mended = await outcomes(settings.pairs_from or arm, *_USABLE)
        refusals = await outcomes(arm, OutcomeState.NOT_SELECTED, reason=REFUSED)
        answers = await outcomes(settings.answers_from or settings.pairs_from or arm, OutcomeState.KEPT)
        sources = PairSources(mended=mended, refusals=refusals, answers=answers)
        return usable_pairs(sources, await self.serving(), arm=arm, row_of=self.row_of)

    def _settings(self, arm: str) -> AssembleSettings:
        return self.assembler.plan.run.arms[arm].assemble
