"""The pump's promises, over the real bus, store and ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tracemend.adapters.folder_store import FolderStore
from tracemend.adapters.memory_bus import MemoryBus
from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.kit.ports import Context, Cost, Message
from tracemend.kit.pump import Pump
from tracemend.kit.results import Results
from tracemend.kit.stage import Produced
from tracemend.records import Category, GenerationRequest, Prompt, Sampling
from tracemend.redaction import Text
from tracemend.topics import ALL, CONTINUATIONS, GENERATIONS, PROMPTS
from tracemend.wire import WireCodec


def request(name: str) -> GenerationRequest:
    prompt = Prompt(id=f"prompt_{name}", text=Text(name), category=Category.BENIGN)
    return GenerationRequest(id=f"request_{name}", prompt=prompt, model="m", sampling=Sampling(), sample=0, seed=1)


def message(name: str, run: str = "r") -> Message:
    return Message(topic=GENERATIONS, record=request(name), context=Context(run=run))


class Shout:
    """A stage that answers each request with its prompt, after asking `behave` what to do with it."""

    name = "shout"
    inputs = (CONTINUATIONS, GENERATIONS)

    def __init__(self, behave: Callable[[str], str | None] = lambda text: None) -> None:
        self.behave = behave
        self.worked: Counter[str] = Counter()

    async def prepare(self, messages: Sequence[Message]) -> None:
        return

    def key(self, message: Message) -> str | None:
        return f"work_{message.record.id}"

    async def work(self, message: Message) -> Produced:
        text = message.record.prompt.text.reveal()
        self.worked[text] += 1
        answer = self.behave(text) or text.upper()
        await asyncio.sleep(0)
        return Produced(
            messages=(self._say(message, answer),), cost=Cost(stage=self.name, num_items=1, num_new_tokens=7)
        )

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        return ()

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        return (self._say(message, f"dead:{reason}"),)

    def _say(self, message: Message, text: str) -> Message:
        prompt = Prompt(id=f"said_{message.record.id}", text=Text(text), category=Category.BENIGN)
        return Message(topic=PROMPTS, record=prompt, context=message.context)


class Bench:
    """One process's parts over a folder."""

    def __init__(self, folder: Path) -> None:
        self.bus = MemoryBus(WireCodec())
        self.ledger = SqlLedger(f"sqlite:{folder / 'ledger.db'}")
        self.results = Results(store=FolderStore(folder), ledger=self.ledger, codec=WireCodec(), topics=ALL)
        self.heard: list[str] = []
        self._news = asyncio.Condition()
        self._ears = self.bus.subscribe((PROMPTS,), group="ears")

    def pump(self, stage: Shout, *, concurrency: int = 256) -> Pump:
        return Pump(stage, bus=self.bus, results=self.results, ledger=self.ledger, worker="w", concurrency=concurrency)

    async def listen(self) -> None:
        async for delivery in self._ears:
            self.heard.append(delivery.message.record.text.reveal())
            await delivery.ack()
            async with self._news:
                self._news.notify_all()

    async def heard_enough(self, number: int) -> None:
        async with self._news:
            await self._news.wait_for(lambda: len(self.heard) >= number)


@asynccontextmanager
async def running(bench: Bench, *pumps: Pump) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in (bench.listen(), *(pump.run() for pump in pumps))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bench.ledger.aclose()


async def push_through(folder: Path, stage: Shout, names: Sequence[str], **options: int) -> Bench:
    """Send `names` through a fresh process over `folder` and wait until nothing is left to do."""
    bench = Bench(folder)
    async with running(bench, bench.pump(stage, **options)):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message(name) for name in names])
        async with asyncio.timeout(20):
            await bench.bus.drained()
    return bench


async def test_every_message_is_worked_once_and_its_output_published(tmp_path: Path) -> None:
    stage = Shout()
    names = [f"n{i}" for i in range(700)]
    bench = await push_through(tmp_path, stage, names)
    assert sorted(bench.heard) == sorted(name.upper() for name in names)
    assert set(stage.worked.values()) == {1}


async def test_a_replay_answers_from_the_ledger_and_publishes_again(tmp_path: Path) -> None:
    await push_through(tmp_path, Shout(), ["a", "b"])
    stage = Shout(lambda text: "a different answer")
    bench = await push_through(tmp_path, stage, ["a", "b"])
    assert not stage.worked
    assert sorted(bench.heard) == ["A", "B"]


async def test_costs_are_booked_once_however_often_work_is_delivered(tmp_path: Path) -> None:
    await push_through(tmp_path, Shout(), ["a", "b"])
    await push_through(tmp_path, Shout(), ["a", "b", "c"])
    ledger = SqlLedger(f"sqlite:{tmp_path / 'ledger.db'}")
    (cost,) = await ledger.costs("r")
    await ledger.aclose()
    assert (cost.stage, cost.num_items, cost.num_new_tokens) == ("shout", 3, 21)


async def test_the_loser_of_a_race_publishes_the_winners_result(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stage = Shout()

    def win_elsewhere(text: str) -> None:
        frame = bench.results.frame([(PROMPTS, stage._say(message("a"), "the winner's words").record)])
        race.append(asyncio.ensure_future(bench.results.save({"work_request_a": frame}, run="r", costs={})))

    race: list[asyncio.Future[object]] = []
    stage.behave = win_elsewhere  # a side effect is all that is wanted
    async with running(bench, bench.pump(stage)):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message("a")])
        await asyncio.wait_for(bench.bus.drained(), 20)
    assert bench.heard == ["the winner's words"]


async def test_busy_work_is_delivered_again_after_its_delay(tmp_path: Path) -> None:
    refusals = iter([True, True, False])

    def behave(text: str) -> str | None:
        if text == "b" and next(refusals):
            raise Retry("busy", after_s=0.01)
        return None

    stage = Shout(behave)
    bench = await push_through(tmp_path, stage, ["a", "b"])
    assert sorted(bench.heard) == ["A", "B"]
    assert stage.worked["b"] == 3


async def test_a_hopeless_record_ends_as_its_stage_says_and_its_neighbours_go_on(tmp_path: Path) -> None:
    def behave(text: str) -> str | None:
        if text == "bad":
            raise Reject("too_long")
        if text == "bug":
            raise KeyError("surprise")
        return None

    bench = await push_through(tmp_path, Shout(behave), ["a", "bad", "bug", "b"])
    assert sorted(bench.heard) == ["A", "B", "dead:bug_KeyError", "dead:too_long"]


async def test_output_that_cannot_be_written_ends_its_own_item_alone(tmp_path: Path) -> None:
    bench = await push_through(tmp_path, Shout(lambda text: "\ud800" if text == "half" else None), ["a", "half", "b"])
    assert sorted(bench.heard) == ["A", "B", "dead:not_utf8"]


async def test_a_graceful_stop_does_not_count_as_a_crash(tmp_path: Path) -> None:
    class Slow(Shout):
        async def work(self, message: Message) -> Produced:
            await asyncio.sleep(3600)
            raise AssertionError("never")

    bench = Bench(tmp_path)
    async with running(bench, bench.pump(Slow())):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message("a")])
        await asyncio.sleep(0.2)
    ledger = SqlLedger(f"sqlite:{tmp_path / 'ledger.db'}")
    assert await ledger.begin(["work_request_a"], worker="w") == {"work_request_a": 0}
    await ledger.aclose()


async def crash_while_working(folder: Path, keys: Sequence[str], times: int) -> None:
    """Leave `times` unfinished attempts on each key, as processes that were killed do."""
    ledger = SqlLedger(f"sqlite:{folder / 'ledger.db'}")
    for _ in range(times):
        await ledger.begin(keys, worker="killed")
    await ledger.aclose()


async def test_a_suspect_is_worked_alone_and_innocents_survive_it(tmp_path: Path) -> None:
    await crash_while_working(tmp_path, ["work_request_killer", "work_request_innocent"], 4)
    company: list[int] = []

    class Watched(Shout):
        async def work(self, message: Message) -> Produced:
            company.append(pump.stats.num_in_flight)
            await asyncio.sleep(0.02)
            return await super().work(message)

    bench = Bench(tmp_path)
    pump = bench.pump(Watched())
    async with running(bench, pump):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message("killer"), message("innocent")])
        await asyncio.wait_for(bench.bus.drained(), 20)
    assert sorted(bench.heard) == ["INNOCENT", "KILLER"]
    assert company == [1, 1]


async def test_waiting_for_ones_turn_is_no_attempt(tmp_path: Path) -> None:
    """A process that is killed while one suspect is worked alone says nothing about the suspects that wait."""
    names = ["first", "second", "third"]
    await crash_while_working(tmp_path, [f"work_request_{name}" for name in names], 4)
    begun = asyncio.Event()

    class Stuck(Shout):
        async def work(self, message: Message) -> Produced:
            begun.set()
            await asyncio.sleep(3600)
            raise AssertionError("never")

    bench = Bench(tmp_path)
    async with running(bench, bench.pump(Stuck())):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message(name) for name in names])
        await asyncio.wait_for(begun.wait(), 10)
        ledger = SqlLedger(f"sqlite:{tmp_path / 'ledger.db'}")  # as the next process would find it after a kill here
        earlier = await ledger.begin([f"work_request_{name}" for name in names], worker="next")
        await ledger.aclose()
    assert sorted(earlier.values()) == [4, 4, 5]


async def test_a_graceful_stop_closes_attempts_on_what_waits_for_a_slot(tmp_path: Path) -> None:
    class Stuck(Shout):
        async def work(self, message: Message) -> Produced:
            await asyncio.sleep(3600)
            raise AssertionError("never")

    bench = Bench(tmp_path)
    async with running(bench, bench.pump(Stuck(), concurrency=1)):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message(name) for name in ("a", "b", "c")])
        await asyncio.sleep(0.2)
    ledger = SqlLedger(f"sqlite:{tmp_path / 'ledger.db'}")
    keys = [f"work_request_{name}" for name in ("a", "b", "c")]
    assert await ledger.begin(keys, worker="w") == dict.fromkeys(keys, 0)
    await ledger.aclose()


async def test_the_most_suspect_are_worked_first(tmp_path: Path) -> None:
    """What a kill hit by chance must clear itself before another kill can hit it again."""
    for name, times in (("once", 1), ("alone", 5), ("twice", 2)):
        await crash_while_working(tmp_path, [f"work_request_{name}"], times)
    order: list[str] = []
    await push_through(tmp_path, Shout(order.append), ["once", "alone", "twice"])
    assert order == ["alone", "twice", "once"]


@pytest.mark.parametrize(("crashes", "ends"), [(6, ["X"]), (7, ["dead:crashed_repeatedly"])])
async def test_only_crashes_alone_count_towards_giving_up(tmp_path: Path, crashes: int, ends: list[str]) -> None:
    await crash_while_working(tmp_path, ["work_request_x"], crashes)
    bench = await push_through(tmp_path, Shout(), ["x"])
    assert bench.heard == ends


class Slow(Shout):
    """One whose work lasts until the test opens the gate."""

    def __init__(self, behave: Callable[[str], str | None] = lambda text: None) -> None:
        super().__init__(behave)
        self.gate, self.is_begun = asyncio.Event(), asyncio.Event()

    async def work(self, message: Message) -> Produced:
        self.is_begun.set()
        await self.gate.wait()
        return await super().work(message)


@pytest.mark.parametrize(
    ("behave", "said"),
    [(lambda text: None, "A"), (lambda text: "\ud800", "dead:not_utf8")],
    ids=["a result", "what was given up"],
)
async def test_equal_work_under_way_is_done_once_and_answers_all(
    tmp_path: Path, behave: Callable[[str], str | None], said: str
) -> None:
    """In one batch or one after the other: each delivery is answered in its own run, and the work costs once."""
    bench, stage = Bench(tmp_path), Slow(behave)
    pump = bench.pump(stage)
    runs: list[str] = []
    ears = bench.bus.subscribe((PROMPTS,), group="runs")

    async def note_runs() -> None:
        async for delivery in ears:
            runs.append(delivery.message.context.run)
            await delivery.ack()

    listening = asyncio.create_task(note_runs())
    async with running(bench, pump):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message("a", run="r"), message("a", run="r"), message("b")])
        async with asyncio.timeout(20):
            await stage.is_begun.wait()
            await bench.bus.publish([message("a", run="other")])
            await asyncio.sleep(0.05)
            assert pump.stats.num_in_flight == 2
            stage.gate.set()
            await bench.bus.drained()
        costs = [cost.num_items for cost in await bench.ledger.costs("r")]
    listening.cancel()
    assert stage.worked == {"a": 1, "b": 1}
    assert sorted(bench.heard)[:3] == [said] * 3
    assert sorted(runs) == ["other", "r", "r", "r"]
    assert (pump.stats.num_done, pump.stats.num_replayed) == (2, 2)
    assert costs == ([2] if said == "A" else [])


async def test_equal_work_that_is_busy_is_tried_again_for_all(tmp_path: Path) -> None:
    refusals = iter([True, True, False])

    def behave(text: str) -> str | None:
        if next(refusals):
            raise Retry("busy", after_s=0.01)
        return None

    stage = Shout(behave)
    bench = await push_through(tmp_path, stage, ["a", "a", "a"])
    assert bench.heard == ["A"] * 3
    assert stage.worked == {"a": 3}


async def test_slow_items_do_not_hold_back_finished_ones(tmp_path: Path) -> None:
    gate = asyncio.Event()

    class Gated(Shout):
        async def work(self, message: Message) -> Produced:
            if message.record.prompt.text.reveal() == "slow":
                await gate.wait()
            return await super().work(message)

    bench = Bench(tmp_path)
    async with running(bench, bench.pump(Gated())):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message("slow"), *(message(f"n{i}") for i in range(50))])
        await asyncio.wait_for(bench.heard_enough(50), 10)
        assert "SLOW" not in bench.heard
        gate.set()
        await asyncio.wait_for(bench.bus.drained(), 20)
    assert "SLOW" in bench.heard


async def test_continuations_go_before_fresh_requests_that_came_first(tmp_path: Path) -> None:
    """A fork waits for what is in the works, not for what waits as it does: else forks would end a run's tail."""
    concurrency, num_fresh = 8, 60
    order: list[str] = []
    gate, is_full = asyncio.Event(), asyncio.Event()

    class Slow(Shout):
        async def work(self, message: Message) -> Produced:
            order.append(message.record.prompt.text.reveal())
            if len(order) == concurrency:
                is_full.set()
            await gate.wait()
            return await Shout.work(self, message)

    bench = Bench(tmp_path)
    pump = bench.pump(Slow(), concurrency=concurrency)
    async with running(bench, pump):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message(f"fresh-{number}") for number in range(num_fresh)])
        async with asyncio.timeout(20):
            await is_full.wait()
            await asyncio.sleep(0.05)  # until everything that may be read ahead has been
            fork = Message(topic=CONTINUATIONS, record=request("fork"), context=Context(run="r"))
            await bench.bus.publish([fork])
            gate.set()
            await bench.bus.drained()
    assert len(order) == num_fresh + 1
    in_the_works = 2 * concurrency  # what is worked, and what was taken in as the first of it ended
    assert order.index("fork") <= in_the_works


async def test_what_the_user_must_change_stops_the_pump_and_ends_no_item(tmp_path: Path) -> None:
    """A refused API key must not be remembered as the result of everything that was asked with it."""

    def refuse(text: str) -> str:
        raise SetupError("the endpoint refused the API key")

    bench = Bench(tmp_path)
    await bench.ledger.open_run("r", plan="p")
    pump = bench.pump(Shout(refuse))
    await bench.bus.publish([message(name) for name in ("a", "b")])
    with pytest.RaisesGroup(pytest.RaisesExc(SetupError, match="API key")):
        async with asyncio.timeout(20):
            await pump.run()
    await bench.ledger.aclose()
    assert pump.stats.num_dead == 0

    mended = await push_through(tmp_path, Shout(), ["a", "b"])
    assert sorted(mended.heard) == ["A", "B"]
