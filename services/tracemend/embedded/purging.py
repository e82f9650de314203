"""Removing a prompt from a run's folder: its own text and everything that was written for it.

`tracemend purge` calls it under the folder's lock. Packs that hold such records are written anew with these records
emptied, all addresses move in one transaction, and only then are the old packs deleted: a kill in between leaves more
than needed and never less. What the records lead to (datasets, models, reports) goes before they are emptied, and what
a dataset leads to before the dataset: purged again after a kill, the folder still says what is left to do. Old packs
that a kill leaves are waste for `gc`. Ids, states and counts stay, so the books still balance. Every unit of the prompt
ends once more, as rejected (purged), in a later epoch, so that the next run of the same command builds its datasets
without it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tracemend.embedded import carrying, underway
from tracemend.embedded.arms import manifest_of
from tracemend.embedded.intake import units_of
from tracemend.embedded.looking import plan_of
from tracemend.embedded.phases import results_of
from tracemend.embedded.workspace import Workspace
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Address
from tracemend.records import Outcome, OutcomeState, Prompt
from tracemend.redaction import Text
from tracemend.topics import OUTCOMES
from tracemend.trainer import dataset

PURGED = "purged"
_REPORTS = ("report.html", "report.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What was removed, and what has to be made again."""

    prompt: str
    num_records: int
    num_packs: int
    datasets: tuple[str, ...]
    """Arms whose dataset held the prompt; it is deleted and the next run builds it again."""
    checkpoints: tuple[str, ...]
    """Arms whose model was trained on it; the next run trains them again."""


async def purge(workspace: Workspace, prompt: str) -> Purged:
    """Remove the prompt with this id; `SetupError` if the folder knows none."""
    packs = await _packs_of(workspace, prompt)
    if not packs:
        raise SetupError(f"nothing in {workspace.folder} belongs to '{prompt}'; `tracemend trace` finds a prompt's id")
    trained = await _end_units(workspace, prompt)
    held = await _drop_datasets(workspace, prompt)
    for name in _REPORTS:  # their side-by-side examples may show it
        (workspace.folder / name).unlink(missing_ok=True)
    shutil.rmtree(workspace.folder / "csr", ignore_errors=True)  # so may pictures of its traces
    moves: dict[Address, Address] = {}
    num_records = 0
    for addresses in packs.values():
        moved, num_emptied = await _rewrite(workspace, addresses, prompt)
        moves |= moved
        num_records += num_emptied
    await workspace.ledger.repoint(moves)
    for pack in packs.keys() - {address.pack for address in moves.values()}:
        await workspace.store.delete(pack)
    models = tuple(arm for arm in held if arm in trained)
    return Purged(prompt=prompt, num_records=num_records, num_packs=len(packs), datasets=held, checkpoints=models)


async def _packs_of(workspace: Workspace, prompt: str) -> dict[str, list[Address]]:
    """The packs that hold records of the prompt, with all that lies in them."""
    affected: set[str] = set()
    async for address in workspace.ledger.about(prompt):
        if address.pack not in affected and await _belongs(workspace, address, prompt):
            affected.add(address.pack)
    addresses: dict[str, set[Address]] = defaultdict(set)
    if affected:
        async for address in workspace.ledger.addresses(packs=sorted(affected)):
            addresses[address.pack].add(address)
    return {pack: sorted(its, key=lambda address: address.offset) for pack, its in sorted(addresses.items())}


async def _rewrite(workspace: Workspace, addresses: list[Address], prompt: str) -> tuple[dict[Address, Address], int]:
    """One pack anew, the prompt's records emptied; where everything lies now, and how many records were emptied."""
    frames = {}
    num_emptied = 0
    for address in addresses:
        products = await workspace.results.read(address)
        if any(_is_of(record, prompt) for _, record in products):
            products = tuple((topic, emptied(record)) for topic, record in products)
            num_emptied += len(products)
        frames[address.digest] = products
    written = await workspace.results.write(frames)
    return {address: written[address.digest] for address in addresses}, num_emptied


async def _end_units(workspace: Workspace, prompt: str) -> set[str]:
    """Conclude the prompt's units as purged in every run that admitted it; the arms that have a checkpoint."""
    trained: set[str] = set()
    for run in await workspace.ledger.runs():
        trained |= {n.removeprefix("train:") for n in await results_of(workspace, run) if n.startswith("train:")}
        admitted = [item async for item in workspace.ledger.admitted(run) if item.prompt == prompt]
        if not admitted:
            continue
        ((_, record),) = await workspace.results.read(admitted[0].address)
        plan = await plan_of(workspace, run)
        ended = [u async for u in workspace.ledger.outcomes(run) if u.unit.prompt == prompt]
        outcomes = [
            Outcome(id=make_id("outcome", unit, PURGED), unit=unit, state=OutcomeState.REJECTED, reason=PURGED)
            for unit in units_of(plan, record)
        ]
        where = await workspace.results.write({outcome.id: ((OUTCOMES, outcome),) for outcome in outcomes})
        reopened = await workspace.ledger.reopened(run)
        epoch = max([unit.epoch + 1 for unit in ended] + [e for (_, its), e in reopened.items() if its == prompt] + [0])
        await workspace.ledger.conclude(run, [(o, where[o.id]) for o in outcomes], epoch=epoch)
    return trained


async def _drop_datasets(workspace: Workspace, prompt: str) -> tuple[str, ...]:
    """Delete the exported datasets that hold the prompt, what is kept of models that were trained on them, and the
    stored shards; their arms."""
    held: set[str] = set()
    shards: set[str] = set()
    for run in await workspace.ledger.runs():
        for name, _, address in await workspace.ledger.phases(run):
            if name.startswith("assemble:"):
                arm = name.removeprefix("assemble:")
                manifest = manifest_of(json.loads(await workspace.store.get(address.pack)))
                for shard in manifest.shards:
                    if await _shard_holds(workspace, shard, prompt):
                        held.add(arm)
                        shards.add(shard)
    for arm in held:
        shutil.rmtree(workspace.folder / "datasets" / arm, ignore_errors=True)
    await _drop_carried(workspace, sorted(held))
    for shard in shards:
        await workspace.store.delete(shard)
    return tuple(sorted(held))


async def _drop_carried(workspace: Workspace, arms: Sequence[str]) -> None:
    """Delete what the store keeps of models that `arms` trained, save what other models share, and of trainings under
    way, which do not say whose they are: those begin anew."""
    dropped: set[str] = set()
    shared: set[str] = set()
    for run in await workspace.ledger.runs() if arms else ():
        for name, _, address in await workspace.ledger.phases(run):
            phase, _, trained = name.partition(":")
            if phase in (carrying.PHASE, underway.PHASE):
                parts = carrying.parts_of(json.loads(await workspace.store.get(address.pack)))
                is_kept = phase == carrying.PHASE and trained.partition(".")[0] not in arms
                (shared if is_kept else dropped).update(parts)
    for part in sorted(dropped - shared):
        await workspace.store.delete(part)


async def _shard_holds(workspace: Workspace, shard: str, prompt: str) -> bool:
    if not await workspace.store.has(shard):
        return False
    return prompt in await dataset.prompts_in(workspace.store, shard)


async def _belongs(workspace: Workspace, address: Address, prompt: str) -> bool:
    return any(_is_of(record, prompt) for _, record in await workspace.results.read(address))


def _is_of(record: Any, prompt: str) -> bool:
    return any(found.id == prompt and found.text for found in _prompts(record))


def _prompts(value: Any) -> Iterator[Prompt]:
    if isinstance(value, Prompt):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _prompts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _prompts(item) if dataclasses.is_dataclass(item) else ()


def emptied(value: Any) -> Any:
    """`value` without any text, token ids or tags; ids, states, counts and positions stay."""
    if isinstance(value, Text):
        return Text("")
    if isinstance(value, Prompt):
        return dataclasses.replace(value, text=Text(""), reference=Text(""), tags={})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: emptied(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return () if value and isinstance(value[0], int) else tuple(emptied(item) for item in value)
    return value
