"""The `Books` of the servicer over the ledger.

Outcomes are paged by place and not by number, because they go on arriving in the middle while somebody reads: a place
names the last unit that was given. Walking from page to page goes on with the walk of the page before; a place whose
walk is gone (another replica gave it, or it was long ago) is walked to anew.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence

from tracemend.ingestion.needs import Counts, OutcomeQuery
from tracemend.kit.ports import ConcludedUnit, Ledger
from tracemend.records import Unit
from tracemend.runtime.rpc.faults import invalid

_KEPT_WALKS = 64


class LedgerBooks:
    """Counts and outcomes from the ledger. One per program."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._walks: OrderedDict[tuple[OutcomeQuery, str], AsyncIterator[ConcludedUnit]] = OrderedDict()

    async def counts(self, run: str) -> Counts:
        units = await self._ledger.unit_counts(run)
        outcomes = await self._ledger.outcome_counts(run)
        return Counts(num_units=sum(units.values()), outcomes=outcomes, costs=await self._ledger.costs(run))

    async def outcomes(self, query: OutcomeQuery, *, after: str, limit: int) -> tuple[Sequence[ConcludedUnit], str]:
        walk = self._walks.pop((query, after), None) or await self._walk_to(query, after)
        page: list[ConcludedUnit] = []
        async for concluded in walk:
            if _is_meant(concluded, query):
                page.append(concluded)
            if len(page) == limit:
                place = _place(concluded.unit)
                self._keep(query, place, walk)
                return page, place
        return page, ""

    def _keep(self, query: OutcomeQuery, place: str, walk: AsyncIterator[ConcludedUnit]) -> None:
        self._walks[query, place] = walk
        if len(self._walks) > _KEPT_WALKS:
            self._walks.popitem(last=False)

    async def _walk_to(self, query: OutcomeQuery, after: str) -> AsyncIterator[ConcludedUnit]:
        walk = self._walk(query, since="")
        if not after:
            return walk
        last = _unit(after)
        walk = self._walk(query, since=last.arm)
        async for concluded in walk:
            if concluded.unit == last:
                return walk
        raise invalid(page_token="names a unit that is open again; leave it empty to start over")

    async def _walk(self, query: OutcomeQuery, *, since: str) -> AsyncIterator[ConcludedUnit]:
        """Outcomes of the arms from `since` on."""
        for arm in [query.arm] if query.arm else sorted(await self._ledger.unit_counts(query.run)):
            if arm >= since:
                async for concluded in self._ledger.outcomes(query.run, arm=arm, prompt=query.prompt or None):
                    yield concluded


def _is_meant(concluded: ConcludedUnit, query: OutcomeQuery) -> bool:
    return (not query.states or concluded.state in query.states) and query.reason in ("", concluded.reason)


def _place(unit: Unit) -> str:
    return json.dumps([unit.arm, unit.prompt, unit.sample, unit.variant])


def _unit(place: str) -> Unit:
    try:
        arm, prompt, sample, variant = json.loads(place)
        return Unit(arm=str(arm), prompt=str(prompt), sample=int(sample), variant=str(variant))
    except (ValueError, TypeError):
        raise invalid(page_token="is not a token of this list; leave it empty to start over") from None
