"""Any sequence of calls to the SQLite ledger gives what a plain dictionary would give."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.contract.ledgers import address, outcome, prompt, sqlite_url

from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.kit.ports import Address, Cost
from tracemend.records import Outcome, OutcomeState, Unit

KEYS = st.lists(st.sampled_from("klmn"), max_size=4)
UNITS = [Unit(arm=arm, prompt=f"p{row}", sample=sample) for arm in "ab" for row in range(3) for sample in range(2)]
ENDS = st.builds(
    outcome,
    st.sampled_from(UNITS),
    st.sampled_from([OutcomeState.KEPT, OutcomeState.DEAD]),
    st.sampled_from(["", "reason"]),
)


class LedgerAgainstDictionaries(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.ledger = SqlLedger(sqlite_url(Path(self.folder.name)))
        self.results: dict[str, Address] = {}
        self.attempts: Counter[str] = Counter()
        self.num_paid = 0
        self.ended: dict[tuple[Unit, int], tuple[Outcome, Address]] = {}
        self.counting: dict[Unit, int] = {}
        """The epoch whose outcome counts; open units have none."""
        self.open_in = dict.fromkeys(UNITS, 0)
        """The epoch that a unit is open in, or was last."""

    def teardown(self) -> None:
        self.runner.run(self.ledger.aclose())
        self.runner.close()
        self.folder.cleanup()

    @initialize()
    def seal(self) -> None:
        self.runner.run(self.ledger.open_run("run", plan="p"))
        prompts = [prompt(row) for row in range(3)]
        self.runner.run(self.ledger.admit("run", prompts=prompts, refused=[], units=UNITS))

    @rule()
    def open_again(self) -> None:
        self.runner.run(self.ledger.aclose())
        self.ledger = SqlLedger(sqlite_url(Path(self.folder.name)))

    @rule(keys=KEYS)
    def begin(self, keys: list[str]) -> None:
        expected = {key: self.attempts[key] for key in keys}
        assert self.runner.run(self.ledger.begin(keys, worker="w")) == expected
        self.attempts.update(set(keys))

    @rule(keys=KEYS)
    def take_up(self, keys: list[str]) -> None:
        done = {key: self.results[key] for key in keys if key in self.results}
        fresh = {key: self.attempts[key] for key in keys if key not in done}
        assert self.runner.run(self.ledger.take_up(keys, worker="w")) == (done, fresh)
        self.attempts.update(set(fresh))

    @rule(keys=KEYS)
    def close(self, keys: list[str]) -> None:
        self.runner.run(self.ledger.close_attempts(keys))
        self.attempts -= Counter(set(keys))

    @rule(keys=KEYS, label=st.sampled_from("xyz"), pays=st.booleans())
    def finish(self, keys: list[str], label: str, pays: bool) -> None:
        offered = {key: address(key + label) for key in keys}
        costs = {key: Cost(stage="s", num_items=1) for key in keys} if pays else {}
        self.num_paid += sum(key not in self.results for key in costs)
        self.results = offered | self.results
        answer = self.runner.run(self.ledger.finish(offered, run="run", costs=costs))
        assert answer == {key: self.results[key] for key in offered}
        for key in offered:
            self.attempts.pop(key, None)

    @rule(ends=st.lists(ENDS, max_size=5), epoch=st.integers(0, 2))
    def conclude(self, ends: list[tuple[Outcome, Address]], epoch: int) -> None:
        self.runner.run(self.ledger.conclude("run", ends, epoch=epoch))
        for end in ends:
            unit = end[0].unit
            is_new = (unit, epoch) not in self.ended
            self.ended.setdefault((unit, epoch), end)
            if is_new and epoch >= self.open_in[unit] and epoch > self.counting.get(unit, -1):
                self.counting[unit] = epoch

    @rule(arm=st.sampled_from("ab"), row=st.integers(0, 2))
    def reopen(self, arm: str, row: int) -> None:
        units = [unit for unit in UNITS if (unit.arm, unit.prompt) == (arm, f"p{row}")]
        ended = [self.counting.pop(unit) for unit in units if unit in self.counting]
        answer = self.runner.run(self.ledger.reopen("run", arm=arm, prompts=[f"p{row}", "unknown"]))
        assert answer == (len(units) if ended else 0)
        if ended:
            self.open_in |= dict.fromkeys(units, max([*(e + 1 for e in ended), *(self.open_in[u] for u in units)]))

    @rule(keys=KEYS)
    def forget(self, keys: list[str]) -> None:
        self.runner.run(self.ledger.forget(keys))
        self.results = {key: address for key, address in self.results.items() if key not in keys}

    @invariant()
    def results_and_costs_agree(self) -> None:
        assert self.runner.run(self.ledger.results(list("klmn"))) == self.results
        assert sum(cost.num_items for cost in self.runner.run(self.ledger.costs("run"))) == self.num_paid

    @invariant()
    def outcomes_agree(self) -> None:
        counting = {unit: self.ended[unit, epoch] for unit, epoch in self.counting.items()}
        kinds = Counter((unit.arm, end.state.value, end.reason) for unit, (end, _) in counting.items())
        assert self.runner.run(self.ledger.outcome_counts("run")) == kinds

        async def listed() -> dict[Unit, Address]:
            return {each.unit: each.address async for each in self.ledger.outcomes("run")}

        assert self.runner.run(listed()) == {unit: where for unit, (_, where) in counting.items()}
        still_open = {unit.prompt for unit in UNITS if unit not in counting}
        assert self.runner.run(self.ledger.open_prompts("run")) == still_open
        later = {(u.arm, u.prompt): self.open_in[u] for u in UNITS if u not in counting and self.open_in[u]}
        assert self.runner.run(self.ledger.reopened("run")) == later


TestLedgerAgainstDictionaries = LedgerAgainstDictionaries.TestCase
TestLedgerAgainstDictionaries.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
