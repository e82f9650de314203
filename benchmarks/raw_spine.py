"""The least that four hops can cost: what `benchmarks.spine` compares the services with.

Five processes (one feeds, four hop) that poll, write, send, wait for the reports and commit, with kafka-python alone:
nothing is decoded, judged or decided. What they move is what the services moved: messages of the same bytes, keys as
long, packs of the same frames in the same bucket, and the same transactions of the same ledger, in batches of the same
size; both hold at least one record behind each other, so that a kill loses nothing. Clients are set up alike.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemend.adapters.kafka_clients import KafkaSettings, open_consumer, open_producer, settings_of
from tracemend.adapters.kafka_envelope import headers_of, pairs_of
from tracemend.embedded.workspace import Workspace, connect_workspace
from tracemend.kit.ports import Address, AdmittedPrompt, Cost
from tracemend.records import Outcome, OutcomeState, Unit
from tracemend.topics import GENERATIONS, GROUPS, OUTCOMES, TRAJECTORIES, VERDICTS, for_target

if TYPE_CHECKING:
    from kafka import KafkaConsumer

RUN, ARM = "raw", "filter"
BATCH = 256
_FED_AT_ONCE = 64
_NUM_EXAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One process: reads `inputs`, and makes one message on each of `outputs` of every one on the last of `inputs`."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    works: bool = False
    """Attempts are counted before, and results packed and entered after."""
    concludes: bool = False


def hops(target: str) -> dict[str, Hop]:
    """The five processes by name."""
    requests = for_target(GENERATIONS, target)
    return {
        "feed": Hop(outputs=(requests,)),
        "generate": Hop(inputs=(requests,), outputs=(TRAJECTORIES.name,), works=True),
        "judge": Hop(inputs=(TRAJECTORIES.name,), outputs=(VERDICTS.name, GROUPS.name), works=True),
        "correct": Hop(inputs=(VERDICTS.name, GROUPS.name), outputs=(OUTCOMES.name,)),
        "record": Hop(inputs=(OUTCOMES.name,), concludes=True),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every process is told."""

    bus: str
    store: str
    ledger: str
    folder: str
    target: str
    num_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A message as the services sent it."""

    key: bytes
    body: bytes
    headers: dict[str, str]


# ---------------------------------------------------------------------------------------- for who starts them


def keep_examples(bus: str, folder: Path, *, target: str) -> None:
    """Write down some messages of every topic as they lie on the broker."""
    for name in sorted({name for hop in hops(target).values() for name in hop.outputs}):
        found = [
            {
                "key": base64.b64encode(record.key).decode(),
                "body": base64.b64encode(record.value).decode(),
                "headers": headers_of(record.headers),
            }
            for record in _some(bus, name)
        ]
        (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")


def _some(bus: str, name: str) -> Sequence[Any]:
    from kafka import TopicPartition

    settings = settings_of(bus)
    consumer = open_consumer(settings, group=None)
    try:
        topic = settings.named(name)
        consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()])
        consumer.seek_to_beginning()
        found: list[Any] = []
        while len(found) < _NUM_EXAMPLES:
            found += itertools.chain.from_iterable(consumer.poll(timeout_ms=1000).values())
        return found[-_NUM_EXAMPLES:]
    finally:
        consumer.close()


async def prepare(workspace: Workspace, num_prompts: int) -> None:
    """Admit the prompts whose outcomes will be entered."""
    somewhere = Address(pack="0" * 64, offset=0, length=0, digest="0" * 64)
    names = [_prompt(number) for number in range(num_prompts)]
    await workspace.ledger.open_run(RUN, plan="0" * 64)
    await workspace.ledger.admit(
        RUN,
        prompts=[AdmittedPrompt(row=row, prompt=name, address=somewhere) for row, name in enumerate(names)],
        refused=[],
        units=[Unit(arm=ARM, prompt=name) for name in names],
    )


@contextmanager
def running(job: Job) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The processes, ready to begin; `begin` has them do so."""
    file = Path(job.folder) / "job.json"
    file.write_text(json.dumps(asdict(job)), encoding="utf-8")
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.raw_spine", name, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in hops(job.target)
    }
    try:
        for name, process in processes.items():
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", f"{name} did not start"
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def begin(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Have the feeder feed."""
    feeding = processes["feed"].stdin
    assert feeding is not None
    feeding.write(b"go\n")
    feeding.flush()


# --------------------------------------------------------------------------------------- in the processes


class Writer:
    """Sends what a hop makes, and waits for the reports."""

    def __init__(self, job: Job, hop: Hop) -> None:
        self._settings = settings_of(job.bus)
        self._producer = open_producer(self._settings)
        folder = Path(job.folder)
        self._examples = {name: itertools.cycle(_examples(folder / f"{name}.json")) for name in hop.outputs}

    def send(self, keys: Sequence[bytes]) -> None:
        reports = [
            self._producer.send(self._settings.named(topic), value=one.body, key=key, headers=pairs_of(one.headers))
            for key in keys
            for topic, examples in self._examples.items()
            for one in (next(examples),)
        ]
        for report in reports:
            report.get(timeout=60)

    def close(self) -> None:
        self._producer.close()


def _examples(file: Path) -> list[Example]:
    return [
        Example(key=base64.b64decode(one["key"]), body=base64.b64decode(one["body"]), headers=one["headers"])
        for one in json.loads(file.read_text(encoding="utf-8"))
    ]


class Books:
    """Packs and the ledger, in the transactions of the services."""

    def __init__(self, workspace: Workspace, frames: Sequence[bytes], *, stage: str) -> None:
        self._workspace = workspace
        self._frames = itertools.cycle(frames)
        self._stage = stage
        self._number = itertools.count()

    async def take_up(self, keys: Sequence[str]) -> None:
        await self._workspace.ledger.take_up(keys, worker=self._stage)

    async def finish(self, keys: Sequence[str]) -> None:
        costs = {key: Cost(stage=self._stage, num_items=1) for key in keys}
        addresses = await self._packed(keys)
        subjects = {key: key for key in keys}
        await self._workspace.ledger.finish(addresses, run=RUN, costs=costs, subjects=subjects)

    async def conclude(self, keys: Sequence[str]) -> None:
        outcomes = [
            (Outcome(id=key, unit=Unit(arm=ARM, prompt=_prompt(_number(key))), state=OutcomeState.KEPT), address)
            for key, address in (await self._packed(keys)).items()
        ]
        await self._workspace.ledger.conclude(RUN, outcomes)

    async def _packed(self, keys: Sequence[str]) -> dict[str, Address]:
        frames = [next(self._frames) for _ in keys]
        unlike = f"{self._stage}-{next(self._number)}".encode()
        pack = await self._workspace.store.put(unlike + b"".join(frames))
        return {
            key: Address(pack=pack, offset=0, length=len(frame), digest=pack)
            for key, frame in zip(keys, frames, strict=True)
        }


async def hop_for_ever(name: str, hop: Hop, job: Job) -> None:
    """Read, write down, send, commit."""
    from kafka.errors import RebalanceInProgressError

    settings = settings_of(job.bus)
    topics = [settings.named(topic) for topic in hop.inputs]
    consumer, writer = _joined(settings, topics, group=name), Writer(job, hop)
    async with _books(name, hop, job) as books:
        print("ready", flush=True)
        last = topics[-1]
        while True:
            polled = consumer.poll(timeout_ms=100, max_records=BATCH)
            keys = [record.key for tp, records in polled.items() if tp.topic == last for record in records]
            names = [f"{name}-{key.decode()}" for key in keys]
            if names and hop.works:
                await books.take_up(names)
                await books.finish(names)
            elif names and hop.concludes:
                await books.conclude(names)
            writer.send(keys)
            if polled:
                with suppress(RebalanceInProgressError):  # the next one commits this as well
                    consumer.commit()


def _joined(settings: KafkaSettings, topics: Sequence[str], *, group: str) -> KafkaConsumer:
    """A consumer that has its partitions. Joins once it knows the topics: who joins before is assigned none."""
    consumer = open_consumer(settings, group=group)
    while not all(consumer.partitions_for_topic(topic) for topic in topics):
        time.sleep(0.1)
    consumer.subscribe(topics)
    while not consumer.assignment():
        consumer.poll(timeout_ms=100)
    return consumer


@asynccontextmanager
async def _books(name: str, hop: Hop, job: Job) -> AsyncIterator[Books]:
    import zstandard

    folder = Path(job.folder)
    kept = hop.outputs or hop.inputs
    bodies = [one.body for one in _examples(folder / f"{kept[0]}.json")]
    frames = [zstandard.ZstdCompressor(level=1).compress(body) for body in bodies]
    async with connect_workspace(folder / name, store=job.store, ledger=job.ledger, worker=name) as workspace:
        yield Books(workspace, frames, stage=name)


def feed(hop: Hop, job: Job) -> None:
    """Ask for every prompt once told to begin, then rest."""
    writer = Writer(job, hop)
    (examples,) = (_examples(Path(job.folder) / f"{name}.json") for name in hop.outputs)
    width = len(examples[0].key)
    print("ready", flush=True)
    sys.stdin.readline()
    for first in range(0, job.num_prompts, _FED_AT_ONCE):
        numbers = range(first, min(first + _FED_AT_ONCE, job.num_prompts))
        writer.send([f"{number:0{width}}".encode() for number in numbers])
    time.sleep(3600)


def _prompt(number: int) -> str:
    return f"prompt-{number:08}"


def _number(key: str) -> int:
    return int(key.rpartition("-")[2])


def main() -> None:
    name, file = sys.argv[1:]
    job = Job(**json.loads(Path(file).read_text(encoding="utf-8")))
    hop = hops(job.target)[name]
    if name == "feed":
        feed(hop, job)
    else:
        asyncio.run(hop_for_ever(name, hop, job))


if __name__ == "__main__":
    main()
