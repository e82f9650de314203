"""Planned units and their outcomes in the SQL ledger: sealing, concluding, counting, what is open.

Used by `sql_ledger` alone, inside its transactions. Of all outcomes of a unit the one of the highest epoch counts;
`units` repeats its state and `tallies` counts it, both in the transaction that writes the outcome.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    Connection,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from tracemend.adapters.sql_rows import (
    Values,
    add_up,
    address_of,
    address_values,
    chunks,
    insert_all,
    insert_new,
    storable,
    update_all,
)
from tracemend.adapters.sql_tables import OUTCOMES, PROMPTS, REFUSED, RUNS, TALLIES, UNIT, UNITS
from tracemend.kit.ports import Address, AdmittedPrompt, ConcludedUnit, RefusedRow
from tracemend.records import Outcome, Unit

Name: TypeAlias = tuple[Any, ...]
"""The values of a unit's `UNIT` columns."""

_ORDER = tuple(UNITS.c[name] for name in UNIT)
_OPEN: Values = {"epoch": -1, "state": "", "reason": ""}
_NOWHERE = dict.fromkeys(("pack", "pack_offset", "pack_length", "digest"))


def seal(
    connection: Connection,
    run: str,
    *,
    prompts: Sequence[AdmittedPrompt],
    refused: Sequence[RefusedRow],
    units: Sequence[Unit],
) -> None:
    """Write the intake of `run`; `ValueError` where a unit names a prompt that is not admitted."""
    rows = {prompt.prompt: prompt.row for prompt in prompts}
    stray = next((unit.prompt for unit in units if unit.prompt not in rows), None)
    if stray is not None:
        raise ValueError(f"a unit is planned for prompt {stray}, which is not admitted")
    admitted = ({"run": run, "row": p.row, "prompt": p.prompt, **address_values(p.address)} for p in prompts)
    kept_out = (
        {"run": run, "row": r.row, "reason": r.reason, "detail": storable(r.detail), "source": storable(r.source)}
        | (address_values(r.address) if r.address else _NOWHERE)
        for r in refused
    )
    insert_all(connection, PROMPTS, admitted)
    insert_all(connection, REFUSED, kept_out)
    insert_all(connection, UNITS, ({**_named(run, unit, rows), **_OPEN} for unit in units))
    _tally(connection, run, Counter((unit.arm, "", "") for unit in units))
    sealed = {"num_admitted": len(prompts), "num_refused": len(refused)}
    connection.execute(update(RUNS).where(RUNS.c.run == run).values(**sealed))
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE prompts, units"))  # or the first minute is planned for empty tables


def conclude(connection: Connection, run: str, outcomes: Sequence[tuple[Outcome, Address]], epoch: int) -> None:
    """Insert what is new of `outcomes` and let it count; `ValueError` where a unit was never planned."""
    rows = _rows_of(connection, run, {outcome.unit.prompt for outcome, _ in outcomes})
    said: dict[Name, Values] = {}
    for outcome, address in outcomes:
        ends = {"epoch": epoch, "state": outcome.state.value, "reason": outcome.reason, **address_values(address)}
        full = _named(run, outcome.unit, rows) | ends
        said.setdefault(_name(full), full)
    standing = _standing(connection, run, said)
    stray = next(
        (outcome.id for outcome, _ in outcomes if _name(_named(run, outcome.unit, rows)) not in standing), None
    )
    if stray is not None:
        raise ValueError(f"outcome {stray} of run {run} belongs to a unit that was never planned")
    won = insert_new(connection, OUTCOMES, [said[name] for name in sorted(said)], returning=UNIT)
    _let_count(connection, run, [(standing[name], said[name]) for name in sorted(won)])


def _let_count(connection: Connection, run: str, moves: Sequence[tuple[Row[Any], Values]]) -> None:
    """Make new outcomes the ones that count, save where one of a higher epoch does or a later one is open."""
    moves = [(before, after) for before, after in moves if _least(before.epoch) <= after["epoch"]]
    changes: Counter[Name] = Counter()
    for before, after in moves:
        changes[after["arm"], before.state, before.reason] -= 1
        changes[after["arm"], after["state"], after["reason"]] += 1
    if moves:
        update_all(connection, UNITS, [{name: after[name] for name in (*UNIT, *_OPEN)} for _, after in moves], key=UNIT)
        _tally(connection, run, changes)


def _least(standing: int) -> int:
    """The least epoch whose outcome counts for a unit with this value of `epoch`."""
    return standing + 1 if standing >= 0 else _open_in(standing)


def _open_in(standing: int) -> int:
    """The epoch that an open unit is open in; see `sql_tables.UNITS`."""
    return -1 - standing


def reopen(connection: Connection, run: str, arm: str, prompts: Sequence[str]) -> int:
    """Open the next epoch of the rows of `prompts` of which a unit has ended; the number of units."""
    changes: Counter[Name] = Counter()
    for chunk in chunks(sorted(_rows_of(connection, run, set(prompts)).values())):
        ours = (UNITS.c.run == run) & (UNITS.c.arm == arm) & UNITS.c.row.in_(chunk)
        by_row: defaultdict[int, list[Row[Any]]] = defaultdict(list)
        for unit in connection.execute(select(UNITS).where(ours).order_by(*_ORDER).with_for_update()):
            by_row[unit.row].append(unit)
        opened: defaultdict[int, list[int]] = defaultdict(list)
        for row, units in by_row.items():
            if any(unit.epoch >= 0 for unit in units):
                opened[max(_least(unit.epoch) for unit in units)].append(row)
                changes.update((arm, unit.state, unit.reason) for unit in units)
        for epoch, rows in opened.items():
            theirs = ours & UNITS.c.row.in_(rows)
            connection.execute(update(UNITS).where(theirs).values({**_OPEN, "epoch": -1 - epoch}))
    num_units = changes.total()
    moved = Counter({name: -number for name, number in changes.items()})
    moved[arm, "", ""] += num_units
    _tally(connection, run, {name: change for name, change in moved.items() if change})
    return num_units


def reopened(connection: Connection, run: str, arms: Sequence[str] | None) -> dict[tuple[str, str], int]:
    """(arm, prompt) to the epoch that its units are open in, for epochs after the first."""
    its_prompt = (PROMPTS.c.run == UNITS.c.run) & (PROMPTS.c.row == UNITS.c.row)
    statement = select(UNITS.c.arm, PROMPTS.c.prompt, UNITS.c.epoch).join(PROMPTS, its_prompt)
    statement = statement.where(UNITS.c.run == run, UNITS.c.epoch < _OPEN["epoch"]).distinct()
    if arms is not None:
        statement = statement.where(UNITS.c.arm.in_(arms))
    return {(row.arm, row.prompt): _open_in(row.epoch) for row in connection.execute(statement)}


def _standing(connection: Connection, run: str, units: Mapping[Name, Values]) -> dict[Name, Row[Any]]:
    """What counts now of `units`, with all units of the same arms and rows; locked where the database locks rows."""
    arms, rows = {unit["arm"] for unit in units.values()}, {unit["row"] for unit in units.values()}
    found: dict[Name, Row[Any]] = {}
    for arm, chunk in itertools.product(sorted(arms), chunks(sorted(rows))):
        for row in connection.execute(_locked(connection, run, arm, chunk)):
            found[_name(row._asdict())] = row
    return found


def _locked(connection: Connection, run: str, arm: str, rows: Sequence[int]) -> Select[Any]:
    """The units of an arm on `rows`, which are sorted; locked in order where the database locks rows."""
    ours = select(UNITS).where(UNITS.c.run == run, UNITS.c.arm == arm).order_by(*_ORDER).with_for_update()
    if connection.dialect.name == "sqlite":
        return ours.where(UNITS.c.row.in_(rows))
    # Row by row, whatever the planner knows: asked for a list, it may read all units of the arm to have them in order.
    given = func.unnest(bindparam("rows", rows, ARRAY(Integer))).table_valued(column("row", Integer))
    given = given.render_derived(name="given")
    its = ours.where(UNITS.c.row == given.c.row).lateral("its")
    return select(its).select_from(given.join(its, true()))


def _tally(connection: Connection, run: str, changes: Mapping[Name, int]) -> None:
    if not changes:
        return
    rows = [
        {"run": run, "arm": arm, "state": state, "reason": reason, "num_units": change}
        for (arm, state, reason), change in sorted(changes.items())
    ]
    add_up(connection, TALLIES, rows, added=["num_units"])


def tallies(connection: Connection, run: str) -> dict[Name, int]:
    """(arm, state, reason) to the number of units, open ones with an empty state."""
    rows = connection.execute(select(TALLIES).where(TALLIES.c.run == run, TALLIES.c.num_units > 0))
    return {(row.arm, row.state, row.reason): row.num_units for row in rows}


def open_prompts(
    connection: Connection, run: str, *, arms: Sequence[str] | None, among: Sequence[str] | None
) -> set[str]:
    """Prompts, of `among` or of all, with an open unit of one of `arms` or of any."""
    found: set[str] = set()
    for arm in arms if arms is not None else sorted({arm for arm, _, _ in tallies(connection, run)}):
        unit_is_open = (UNITS.c.run == run) & (UNITS.c.arm == arm) & (UNITS.c.epoch < 0)
        if among is None:
            rows = select(UNITS.c.row).where(unit_is_open)
            found.update(
                connection.scalars(select(PROMPTS.c.prompt).where(PROMPTS.c.run == run, PROMPTS.c.row.in_(rows)))
            )
        else:
            its = select(UNITS.c.row).where(unit_is_open, UNITS.c.row == PROMPTS.c.row).exists()
            for chunk in chunks(among):
                found.update(row.prompt for row in connection.execute(_prompts(run, chunk).where(its)))
    return found


def open_units(connection: Connection, run: str, limit: int) -> list[tuple[Unit, int]]:
    """The first `limit` open units and the epoch that each is open in."""
    its_prompt = (PROMPTS.c.run == UNITS.c.run) & (PROMPTS.c.row == UNITS.c.row)
    statement = select(UNITS, PROMPTS.c.prompt).join(PROMPTS, its_prompt)
    statement = statement.where(UNITS.c.run == run, UNITS.c.epoch < 0).order_by(*_ORDER).limit(limit)
    return [
        (Unit(arm=row.arm, prompt=row.prompt, sample=row.sample, variant=row.variant), _open_in(row.epoch))
        for row in connection.execute(statement)
    ]


def concluded(run: str, arm: str, prompt: str | None = None) -> Select[Any]:
    """The outcome that counts of every concluded unit of an arm, or of one prompt's, with its prompt."""
    counts = and_(*(UNITS.c[name] == OUTCOMES.c[name] for name in (*UNIT, "epoch")))
    its_prompt = (PROMPTS.c.run == OUTCOMES.c.run) & (PROMPTS.c.row == OUTCOMES.c.row)
    statement = select(OUTCOMES, PROMPTS.c.prompt).join(UNITS, counts).join(PROMPTS, its_prompt)
    statement = statement.where(OUTCOMES.c.run == run, OUTCOMES.c.arm == arm)
    return statement if prompt is None else statement.where(PROMPTS.c.prompt == prompt)


def concluded_unit(row: Row[Any]) -> ConcludedUnit:
    """A row of `concluded`."""
    unit = Unit(arm=row.arm, prompt=row.prompt, sample=row.sample, variant=row.variant)
    return ConcludedUnit(unit=unit, epoch=row.epoch, state=row.state, reason=row.reason, address=address_of(row))


def _prompts(run: str, prompts: Sequence[str]) -> Select[Any]:
    """Those of `prompts` that are admitted, with their rows."""
    # The run is compared as an expression, which no index serves: SQLite has no statistics here and would otherwise
    # read all prompts of the run instead of looking up the few that are named.
    its_run = PROMPTS.c.run + literal_column("''")
    return select(PROMPTS.c.prompt, PROMPTS.c.row).where(PROMPTS.c.prompt.in_(prompts), its_run == run)


def _rows_of(connection: Connection, run: str, prompts: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for chunk in chunks(sorted(prompts)):
        found.update((row.prompt, row.row) for row in connection.execute(_prompts(run, chunk)))
    return found


def _named(run: str, unit: Unit, rows: Mapping[str, int]) -> Values:
    """The `UNIT` columns of `unit`; a prompt that was never admitted has row -1, where no unit is planned."""
    row = rows.get(unit.prompt, -1)
    return {"run": run, "arm": unit.arm, "row": row, "sample": unit.sample, "variant": unit.variant}


def _name(row: Mapping[str, Any]) -> Name:
    return tuple(row[name] for name in UNIT)
