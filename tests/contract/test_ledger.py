"""What every ledger does: `kit.ports.Ledger` in code. Adapters join by a line in `ledgers.URLS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.ledgers import URLS, address, outcome, prompt, refused

from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.kit.ports import Cost, Ledger, RefusedRow
from tracemend.records import OutcomeState, Unit

UNITS = [Unit(arm=arm, prompt=f"p{row}", sample=sample) for arm in "ab" for row in range(3) for sample in range(2)]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return URLS[request.param](tmp_path)


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[Ledger]:
    opened = SqlLedger(url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def run(ledger: Ledger) -> str:
    """A sealed run with three prompts, two samples each, in two arms."""
    await ledger.open_run("run", plan="plan")
    await ledger.admit("run", prompts=[prompt(row) for row in range(3)], refused=[refused(7)], units=UNITS)
    return "run"


# ------------------------------------------------------------------------------------------------ runs


async def test_a_run_is_opened_once_and_keeps_its_state_while_its_plan_may_change(ledger: Ledger) -> None:
    assert await ledger.run_state("run") is None
    assert await ledger.run_plan("run") is None
    assert await ledger.open_run("run", plan="one") == "receiving"
    await ledger.set_state("run", "paused")
    assert await ledger.open_run("run", plan="two") == "paused"
    assert await ledger.run_plan("run") == "two"
    await ledger.open_run("another", plan="one")
    assert await ledger.runs() == ["run", "another"]
    assert await ledger.run_state("run") == "paused"


async def test_a_run_that_was_never_opened_has_no_state_to_set_and_takes_no_prompts(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="never opened"):
        await ledger.set_state("nobody", "done")
    with pytest.raises(ValueError, match="never opened"):
        await ledger.admit("nobody", prompts=[], refused=[], units=[])


# ---------------------------------------------------------------------------------------------- intake


async def test_the_intake_comes_back_in_row_order(ledger: Ledger) -> None:
    await ledger.open_run("run", plan="p")
    assert await ledger.intake("run") is None
    bare = RefusedRow(row=1, reason="empty", detail="", source="file")
    rows = [prompt(9), prompt(0), prompt(3)]
    await ledger.admit("run", prompts=rows, refused=[refused(4), bare], units=[])
    assert await ledger.intake("run") == (3, 2)
    assert [each async for each in ledger.admitted("run")] == [prompt(0), prompt(3), prompt(9)]
    assert [each async for each in ledger.refused("run")] == [bare, refused(4)]


async def test_what_a_hostile_file_says_of_itself_does_not_stop_the_intake(ledger: Ledger) -> None:
    await ledger.open_run("run", plan="p")
    hostile = RefusedRow(row=0, reason="encoding", detail="a\x00b", source="'; DROP TABLE runs; -- \ud800 \U0001f9ea")
    await ledger.admit("run", prompts=[], refused=[hostile], units=[])
    (kept,) = [each async for each in ledger.refused("run")]
    assert (kept.detail, kept.source) == ("a\ufffdb", "'; DROP TABLE runs; -- ? \U0001f9ea")


async def test_an_empty_intake_is_sealed_too(ledger: Ledger) -> None:
    await ledger.open_run("run", plan="p")
    await ledger.admit("run", prompts=[], refused=[], units=[])
    assert await ledger.intake("run") == (0, 0)


async def test_sealing_again_changes_nothing(ledger: Ledger, run: str) -> None:
    await ledger.conclude(run, [outcome(UNITS[0])])
    await ledger.admit(run, prompts=[prompt(50)], refused=[], units=[Unit(arm="z", prompt="p50")])
    assert await ledger.intake(run) == (3, 1)
    assert await ledger.unit_counts(run) == {"a": 6, "b": 6}
    assert await ledger.outcome_counts(run) == {("a", "kept", ""): 1}


async def test_a_unit_of_a_prompt_that_is_not_admitted_is_a_mistake_and_nothing_is_sealed(ledger: Ledger) -> None:
    await ledger.open_run("run", plan="p")
    with pytest.raises(ValueError, match="not admitted"):
        await ledger.admit("run", prompts=[prompt(0)], refused=[], units=[Unit(arm="a", prompt="other")])
    assert await ledger.intake("run") is None
    assert [each async for each in ledger.admitted("run")] == []


async def test_iterating_goes_past_one_page_and_other_runs_stay_out(ledger: Ledger) -> None:
    for name, rows in (("other", 5), ("run", 2500)):
        await ledger.open_run(name, plan="p")
        units = [Unit(arm="a", prompt=f"p{row}", variant=variant) for row in range(rows) for variant in ("", "x")]
        await ledger.admit(name, prompts=[prompt(row) for row in range(rows)], refused=[], units=units)
        await ledger.conclude(name, [outcome(unit) for unit in units])
    assert [each.row async for each in ledger.admitted("run")] == list(range(2500))
    seen = [(each.unit.prompt, each.unit.variant) async for each in ledger.outcomes("run")]
    assert seen == [(f"p{row}", variant) for row in range(2500) for variant in ("", "x")]


# ------------------------------------------------------------------------------------------------ work


async def test_the_first_result_wins_and_everybody_learns_it(ledger: Ledger) -> None:
    assert await ledger.finish({"k": address("first")}, run="run", costs={}) == {"k": address("first")}
    again = await ledger.finish({"k": address("second"), "l": address("new")}, run="run", costs={})
    assert again == {"k": address("first"), "l": address("new")}
    assert await ledger.results(["k", "l", "m"]) == again


async def test_costs_count_for_won_keys_only_and_are_summed_by_stage(ledger: Ledger) -> None:
    cost = Cost(
        stage="judge", num_items=1, num_prompt_tokens=10, num_cached_tokens=4, num_new_tokens=5, seconds=0.5, money=0.25
    )  # fmt: skip
    await ledger.finish({"k": address("1"), "l": address("2")}, run="run", costs={"k": cost, "l": cost})
    await ledger.finish({"k": address("3"), "m": address("4")}, run="run", costs={"k": cost, "m": cost})
    await ledger.book_cost("run", Cost(stage="evaluator", seconds=3.0), by="a")
    await ledger.book_cost("other", cost, by="a")
    judging = Cost(
        stage="judge", num_items=3, num_prompt_tokens=30, num_cached_tokens=12, num_new_tokens=15, seconds=1.5,
        money=0.75,
    )  # fmt: skip
    assert await ledger.costs("run") == [Cost(stage="evaluator", seconds=3.0), judging]


async def test_what_somebody_books_counts_once_however_often_it_is_said(ledger: Ledger) -> None:
    await ledger.finish({"k": address("1")}, run="run", costs={"k": Cost(stage="wall", seconds=0.5)})
    for seconds in (1.0, 2.0, 2.0):
        await ledger.book_cost("run", Cost(stage="wall", seconds=seconds), by="a")
    await ledger.book_cost("run", Cost(stage="wall", seconds=4.0), by="b")
    assert await ledger.costs("run") == [Cost(stage="wall", seconds=6.5)]


async def test_unfinished_attempts_are_counted(ledger: Ledger) -> None:
    assert await ledger.begin(["k", "l"], worker="w") == {"k": 0, "l": 0}
    assert await ledger.begin(["k", "k", "m"], worker="w") == {"k": 1, "m": 0}
    assert await ledger.begin(["k"], worker="other") == {"k": 2}


async def test_taking_up_gives_what_is_done_and_counts_attempts_on_the_rest(ledger: Ledger) -> None:
    await ledger.finish({"done": address("1")}, run="run", costs={})
    await ledger.begin(["crashed"], worker="killed")
    taken = await ledger.take_up(["done", "crashed", "new", "new"], worker="w")
    assert taken == ({"done": address("1")}, {"crashed": 1, "new": 0})
    assert await ledger.begin(["done", "crashed", "new"], worker="w") == {"done": 0, "crashed": 2, "new": 1}
    assert await ledger.take_up(["done"], worker="w") == ({"done": address("1")}, {})
    assert await ledger.take_up([], worker="w") == ({}, {})


async def test_a_closed_attempt_does_not_count_and_earlier_crashes_still_do(ledger: Ledger) -> None:
    await ledger.begin(["k"], worker="crashed")
    await ledger.begin(["k", "l"], worker="w")
    await ledger.close_attempts(["k", "l", "never begun"])
    assert await ledger.begin(["k", "l"], worker="w") == {"k": 1, "l": 0}


async def test_finishing_closes_the_attempts_of_winners_and_losers(ledger: Ledger) -> None:
    await ledger.begin(["k"], worker="w")
    await ledger.finish({"k": address("1")}, run="run", costs={})
    assert await ledger.begin(["k"], worker="w") == {"k": 0}
    await ledger.finish({"k": address("2")}, run="run", costs={})
    assert await ledger.begin(["k"], worker="w") == {"k": 0}


async def test_nothing_to_do_is_nothing_done(ledger: Ledger, run: str) -> None:
    assert await ledger.begin([], worker="w") == {}
    assert await ledger.finish({}, run=run, costs={}) == {}
    assert await ledger.results([]) == {}
    await ledger.close_attempts([])
    await ledger.conclude(run, [])
    assert await ledger.open_prompts(run, among=[]) == set()
    assert await ledger.open_prompts(run, arms=[]) == set()


async def test_thousands_of_keys_in_one_call_work(ledger: Ledger) -> None:
    keys = [f"k{number}" for number in range(12_000)]
    await ledger.begin(keys, worker="w")
    won = await ledger.finish({key: address(key) for key in keys}, run="run", costs={})
    assert await ledger.results(keys) == won
    assert len(won) == 12_000


# -------------------------------------------------------------------------------------------- outcomes


async def test_the_first_outcome_of_a_unit_wins_in_silence(ledger: Ledger, run: str) -> None:
    await ledger.conclude(run, [outcome(UNITS[0]), outcome(UNITS[0], OutcomeState.DEAD)])
    await ledger.conclude(run, [outcome(UNITS[0], OutcomeState.GAVE_UP, "rounds"), outcome(UNITS[1])])
    assert await ledger.outcome_counts(run) == {("a", "kept", ""): 2}
    first, second = [each async for each in ledger.outcomes(run)]
    assert (first.unit, first.state, first.epoch, first.address) == (UNITS[0], "kept", 0, outcome(UNITS[0])[1])
    assert second.unit == UNITS[1]


async def test_the_outcome_of_the_highest_epoch_counts_whatever_the_order(ledger: Ledger, run: str) -> None:
    await ledger.conclude(run, [outcome(UNITS[0]), outcome(UNITS[1])])
    await ledger.conclude(run, [outcome(UNITS[0], OutcomeState.DEAD, "late")], epoch=2)
    await ledger.conclude(run, [outcome(UNITS[0], OutcomeState.GAVE_UP)], epoch=1)
    assert await ledger.outcome_counts(run) == {("a", "dead", "late"): 1, ("a", "kept", ""): 1}
    assert [(each.epoch, each.state) async for each in ledger.outcomes(run)] == [(2, "dead"), (0, "kept")]


async def test_reopened_units_are_open_in_the_next_epoch_and_only_its_outcomes_count(ledger: Ledger, run: str) -> None:
    await ledger.conclude(run, [outcome(unit) for unit in UNITS])
    assert await ledger.reopen(run, arm="a", prompts=["p0", "unknown"]) == 2
    assert await ledger.reopen(run, arm="a", prompts=["p0"]) == 0, "what is open already stays in its epoch"
    assert await ledger.open_prompts(run) == {"p0"}
    assert await ledger.reopened(run) == await ledger.reopened(run, arms=["a"]) == {("a", "p0"): 1}
    assert await ledger.reopened(run, arms=["b"]) == {}
    assert await ledger.outcome_counts(run) == {("a", "kept", ""): 4, ("b", "kept", ""): 6}
    assert await ledger.unit_counts(run) == {"a": 6, "b": 6}

    await ledger.conclude(run, [outcome(UNITS[0], OutcomeState.DEAD)])
    assert await ledger.open_prompts(run) == {"p0"}, "an echo of the first epoch ends nothing"
    await ledger.conclude(run, [outcome(UNITS[0], OutcomeState.DEAD), outcome(UNITS[1])], epoch=1)
    assert await ledger.open_prompts(run) == set()
    assert await ledger.reopened(run) == {}
    assert await ledger.outcome_counts(run) == {("a", "dead", ""): 1, ("a", "kept", ""): 5, ("b", "kept", ""): 6}


async def test_a_forgotten_result_is_won_by_who_finishes_next(ledger: Ledger, run: str) -> None:
    await ledger.finish({"k": address("dead"), "l": address("good")}, run=run, costs={})
    await ledger.forget(["k", "never known"])
    assert await ledger.results(["k", "l"]) == {"l": address("good")}
    assert await ledger.finish({"k": address("anew")}, run=run, costs={}) == {"k": address("anew")}


async def test_an_outcome_of_an_unplanned_unit_is_a_mistake_and_writes_nothing(ledger: Ledger, run: str) -> None:
    for stray in (Unit(arm="a", prompt="p0", sample=9), Unit(arm="a", prompt="unknown"), Unit(arm="z", prompt="p0")):
        with pytest.raises(ValueError, match="never planned"):
            await ledger.conclude(run, [outcome(UNITS[0]), outcome(stray)])
    assert await ledger.outcome_counts(run) == {}


async def test_prompts_are_open_until_the_last_of_their_units_has_ended(ledger: Ledger, run: str) -> None:
    of_p1 = [unit for unit in UNITS if unit.prompt == "p1"]
    assert await ledger.open_prompts(run) == {"p0", "p1", "p2"}
    await ledger.conclude(run, [outcome(unit) for unit in of_p1[:-1]])
    assert await ledger.open_prompts(run) == {"p0", "p1", "p2"}
    assert await ledger.open_prompts(run, arms=["a"]) == {"p0", "p2"}
    await ledger.conclude(run, [outcome(of_p1[-1])])
    assert await ledger.open_prompts(run) == {"p0", "p2"}
    assert await ledger.open_prompts(run, among=["p1", "p2", "unknown"]) == {"p2"}
    assert await ledger.open_prompts(run, arms=["b", "unknown"], among=["p0", "p1"]) == {"p0"}


async def test_outcomes_come_in_order_of_arm_row_and_sample(ledger: Ledger, run: str) -> None:
    await ledger.conclude(run, [outcome(unit) for unit in reversed(UNITS)])
    assert [each.unit async for each in ledger.outcomes(run)] == UNITS
    assert [each.unit async for each in ledger.outcomes(run, arm="b")] == UNITS[6:]


# --------------------------------------------------------------------------------------------- phases


async def test_the_first_result_of_a_phase_wins_and_phases_are_listed_as_they_ended(ledger: Ledger) -> None:
    assert await ledger.phase("run", "k2") is None
    assert await ledger.finish_phase("run", "k2", name="train", address=address("1")) == address("1")
    assert await ledger.finish_phase("run", "k2", name="train", address=address("2")) == address("1")
    await ledger.finish_phase("run", "k1", name="evaluate", address=address("3"))
    await ledger.finish_phase("other", "k1", name="train", address=address("4"))
    assert await ledger.phase("run", "k2") == address("1")
    assert await ledger.phases("run") == [("train", "k2", address("1")), ("evaluate", "k1", address("3"))]


# ----------------------------------------------------------------------------------- several at a time


async def test_calls_at_the_same_time_agree_on_one_winner_per_key(ledger: Ledger, url: str) -> None:
    other = SqlLedger(url)
    keys = [f"k{number}" for number in range(40)]
    cost = {key: Cost(stage="s", num_items=1) for key in keys}
    calls = [
        each.finish({key: address(f"{key}-{caller}") for key in keys}, run="run", costs=cost)
        for caller, each in enumerate([ledger, other] * 4)
    ]
    answers = await asyncio.gather(*calls)
    assert all(answer == answers[0] for answer in answers)
    assert await other.costs("run") == [Cost(stage="s", num_items=40)]
    await other.aclose()


async def test_conclusions_at_the_same_time_are_each_counted_once(ledger: Ledger, url: str, run: str) -> None:
    other = SqlLedger(url)
    states = [OutcomeState.KEPT, OutcomeState.DEAD, OutcomeState.GAVE_UP]
    calls = [
        each.conclude(run, [outcome(unit, states[caller % 3]) for unit in UNITS[caller % 4 :]], epoch=caller % 2)
        for caller, each in enumerate([ledger, other] * 6)
    ]
    await asyncio.gather(*calls)
    counts = await ledger.outcome_counts(run)
    seen = [(each.unit.arm, each.state, each.reason) async for each in ledger.outcomes(run)]
    assert counts == {kind: seen.count(kind) for kind in set(seen)}
    assert sum(counts.values()) == len(UNITS)
    assert await ledger.open_prompts(run) == set()
    await other.aclose()


async def test_what_was_written_is_there_after_opening_again(url: str) -> None:
    first = SqlLedger(url)
    await first.open_run("run", plan="plan")
    await first.finish({"k": address("1")}, run="run", costs={})
    await first.aclose()
    second = SqlLedger(url)
    assert await second.run_plan("run") == "plan"
    assert await second.results(["k"]) == {"k": address("1")}
    await second.aclose()
    await second.aclose()


async def test_finished_work_can_be_looked_through(ledger: Ledger, run: str) -> None:
    done = {f"k{number}": address(f"k{number}") for number in range(3)}
    await ledger.finish(done, run=run, costs={})
    await ledger.begin(["unfinished"], worker="w")
    assert {key: where async for key, where in ledger.work()} == done


async def test_every_blob_that_something_refers_to_is_named(ledger: Ledger, run: str) -> None:
    await ledger.finish({"k": address("work")}, run=run, costs={})
    await ledger.conclude(run, [outcome(UNITS[0])])
    await ledger.finish_phase(run, "key", name="assemble", address=address("phase"))
    labels = ["p0", "p1", "p2", "r7", "work", "phase"]
    concluded = [unit.address.pack async for unit in ledger.outcomes(run)]
    assert await ledger.referenced() == {"plan", *(address(label).pack for label in labels), *concluded}


async def test_what_is_about_a_prompt_is_found_and_what_may_be(ledger: Ledger, run: str) -> None:
    done = {"k0": address("k0"), "k1": address("k1"), "old": address("old")}
    await ledger.finish(done, run=run, costs={}, subjects={"k0": "p0", "k1": "p1"})
    await ledger.conclude(run, [outcome(unit) for unit in UNITS])
    await ledger.conclude(run, [outcome(UNITS[0], OutcomeState.DEAD)], epoch=1)
    its = [outcome(unit)[1] for unit in UNITS if unit.prompt == "p0"] + [outcome(UNITS[0], OutcomeState.DEAD)[1]]
    found = [each async for each in ledger.about("p0")]
    assert sorted(found, key=str) == sorted([prompt(0).address, *its, done["k0"], done["old"]], key=str)
    assert [each.unit async for each in ledger.outcomes(run, prompt="p1")] == [u for u in UNITS if u.prompt == "p1"]

    packs = [done["k1"].pack, prompt(2).address.pack, "unknown"]
    assert {each async for each in ledger.addresses(packs=packs)} == {done["k1"], prompt(2).address}
    assert {each async for each in ledger.addresses(packs=[])} == set()


async def test_addresses_move_together_and_their_neighbours_stay(ledger: Ledger, run: str) -> None:
    await ledger.finish({"k": address("k"), "l": address("l")}, run=run, costs={})
    await ledger.conclude(run, [outcome(UNITS[0]), outcome(UNITS[1])])
    (first, second) = [unit.address async for unit in ledger.outcomes(run)]
    assert {address("k"), address("l"), address("p0"), address("r7"), first, second} <= {
        item async for item in ledger.addresses()
    }
    moves = {address("k"): address("k moved"), address("p1"): address("p1 moved"), first: address("o moved")}
    await ledger.repoint(moves)
    assert await ledger.results(["k", "l"]) == {"k": address("k moved"), "l": address("l")}
    assert [p.address async for p in ledger.admitted(run)] == [address("p0"), address("p1 moved"), address("p2")]
    assert [unit.address async for unit in ledger.outcomes(run)] == [address("o moved"), second]
    await ledger.repoint({})
