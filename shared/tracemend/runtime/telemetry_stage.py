"""A stage whose verdicts and outcomes are counted where they are made, and whose log lines know what they belong to.

Programs wrap the stages that they pump: `Pump(measured_stage(stage, telemetry), telemetry=telemetry, …)`. The pump
itself reports pieces of work, their times and their traces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tracemend.kit import telemetry as catalogue
from tracemend.kit.logs import about
from tracemend.kit.ports import Message
from tracemend.kit.stage import Produced, Stage
from tracemend.kit.telemetry import Telemetry
from tracemend.records import Judgement, Outcome, OutcomeState, Value, Verdict
from tracemend.topics import Topic

_NAME = re.compile(r"[a-z0-9_]+")
_UNPARSED = "unparsed"
"""The label of a judge's reply that could not be read."""


def measured_stage(stage: Stage, telemetry: Telemetry) -> Stage:
    """`stage`, reporting to `telemetry`."""
    return _MeasuredStage(stage, telemetry)


class _MeasuredStage:
    """Implements `Stage` over another."""

    def __init__(self, stage: Stage, telemetry: Telemetry) -> None:
        self._stage = stage
        self._telemetry = telemetry

    @property
    def name(self) -> str:
        return self._stage.name

    @property
    def inputs(self) -> tuple[Topic, ...]:
        return self._stage.inputs

    async def prepare(self, messages: Sequence[Message]) -> None:
        await self._stage.prepare(messages)

    def key(self, message: Message) -> str | None:
        return self._stage.key(message)

    async def work(self, message: Message) -> Produced:
        with about(run=message.context.run, stage=self.name, key=self._stage.key(message) or ""):
            produced = await self._stage.work(message)
        self._count(produced.messages)
        return produced

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        made = await self._stage.follow(messages)
        self._count(made)
        return made

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        instead = self._stage.dead(message, reason)
        self._count(instead)
        return instead

    def _count(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message.record, Verdict):
                self._count_verdict(message.record)
            elif isinstance(message.record, Outcome):
                self._count_outcome(message.record)

    def _count_verdict(self, verdict: Verdict) -> None:
        self._telemetry.count(catalogue.VERDICTS, axis=verdict.axis.value, value=verdict.whole.value.value)
        parts: tuple[Judgement, ...] = (verdict.reasoning, verdict.answer)
        for one in (*parts, verdict.whole):
            if _UNPARSED in one.labels:
                self._telemetry.count(catalogue.PARSE_FAILURES, judge=_judge(one))
        values = {one.value for one in parts}
        if values == {Value.SAFE, Value.UNSAFE}:
            self._telemetry.count(catalogue.DISAGREEMENTS, axis=verdict.axis.value)

    def _count_outcome(self, outcome: Outcome) -> None:
        self._telemetry.count(catalogue.OUTCOMES, state=outcome.state.value)
        if outcome.state is OutcomeState.CORRECTED:
            self._telemetry.count(catalogue.CORRECTIONS, outcome="accepted")
            rounds = outcome.final.trajectory.round if outcome.final is not None else 0
            self._telemetry.observe(catalogue.CORRECTION_ROUNDS, rounds)
        elif outcome.state in (OutcomeState.GAVE_UP, OutcomeState.REJECTED):
            self._telemetry.count(catalogue.CORRECTIONS, outcome="rejected")
            self._telemetry.count(catalogue.CORRECTION_REJECTS, reason=outcome.reason)


def _judge(judgement: Judgement) -> str:
    """The judge's name without its digest."""
    found = _NAME.match(judgement.judge)
    return found[0] if found else "unnamed"
