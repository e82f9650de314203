"""Ends what a cancelled run leaves open: every open unit gets its one outcome, `cancelled`.

Called by whoever looks after a run once its state is `cancelled`, and again whenever such a run has open units: what
was in flight may have been admitted or reopened meanwhile. The first outcome of a unit wins, so what ended by itself
before keeps its end, and several may do this at once or one after another's crash.
"""

from __future__ import annotations

from itertools import groupby

from tracemend.kit.ids import make_id
from tracemend.kit.ports import Ledger
from tracemend.kit.results import Results
from tracemend.records import Outcome, OutcomeState, Unit
from tracemend.topics import OUTCOMES

NUM_AT_ONCE = 1000
"""Units of one pack and transaction: few enough that others who write outcomes hardly wait."""


async def close_open_units(
    run: str, *, ledger: Ledger, results: Results, reason: str = "", at_once: int = NUM_AT_ONCE
) -> int:
    """Conclude every open unit of `run` as cancelled, `at_once` at a time; how many that were."""
    num_closed = 0
    while opened := await ledger.open_units(run, limit=at_once):
        outcomes = [(_cancelled(unit, reason), epoch) for unit, epoch in opened]
        where = await results.write({outcome.id: ((OUTCOMES, outcome),) for outcome, _ in outcomes})
        for epoch, ended in groupby(sorted(outcomes, key=lambda each: each[1]), key=lambda each: each[1]):
            await ledger.conclude(run, [(outcome, where[outcome.id]) for outcome, _ in ended], epoch=epoch)
        num_closed += len(opened)
    return num_closed


def _cancelled(unit: Unit, reason: str) -> Outcome:
    state = OutcomeState.CANCELLED
    return Outcome(id=make_id("outcome", unit, state, reason), unit=unit, state=state, reason=reason)
