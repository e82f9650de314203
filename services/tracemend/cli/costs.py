"""`tracemend costs`: what a run took, by stage, by how its units ended, and for each row that it gained."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.text import Text as Styled

from tracemend.cli.showing import print_json, table, wide_console
from tracemend.embedded.costs import Amount, RunCosts, costs_of
from tracemend.embedded.looking import open_run
from tracemend.embedded.plan import Plan, from_content
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Ledger
from tracemend.kit.prices import Price
from tracemend.kit.results import Results
from tracemend.kit.secrets import secret_of
from tracemend.runtime.opening import open_ledger, open_store
from tracemend.topics import ALL
from tracemend.wire import WireCodec

LEDGER, STORE = "TRACEMEND_LEDGER", "TRACEMEND_STORE"


def costs(run: str, *, prices: Path | None, as_json: bool) -> None:
    """Print the account of the run in a folder, or of the cluster's run with this id."""
    table_of_prices = _prices(prices) if prices is not None else {}
    account = asyncio.run(_account(run, table_of_prices))
    if as_json:
        print_json(account)
    else:
        _show(wide_console(), account)


async def _account(run: str, prices: Mapping[str, Price]) -> RunCosts:
    if Path(run).is_dir():
        async with open_run(Path(run)) as opened:
            its = opened.workspace
            return await costs_of(its.ledger, its.results, run=opened.run, plan=opened.plan, prices=prices)
    async with _open_shared(run) as (ledger, results, plan):
        return await costs_of(ledger, results, run=run, plan=plan, prices=prices)


@asynccontextmanager
async def _open_shared(run: str) -> AsyncIterator[tuple[Ledger, Results, Plan]]:
    """The ledger and store that the environment names, as services have them, with the plan of `run`."""
    ledger_url, store_url = secret_of(LEDGER).reveal(), os.environ.get(STORE, "")
    if not ledger_url or not store_url:
        raise SetupError(f"{run}: no such folder; for a run of a cluster, set {LEDGER} and {STORE} as its services do")
    ledger, store = open_ledger(ledger_url), open_store(store_url)
    try:
        digest = await ledger.run_plan(run)
        if digest is None:
            raise SetupError(f"{run}: the ledger knows no such run; `tracemend runs` lists them")
        results = Results(store=store, ledger=ledger, codec=WireCodec(), topics=ALL)
        yield ledger, results, from_content(await store.get(digest))
    finally:
        await ledger.aclose()


def _prices(path: Path) -> dict[str, Price]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, Price]).validate_python(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise SetupError(
            f"{path}: cannot be read as YAML; give --prices a file with `STAGE: {{PRICE: NUMBER}}`"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SetupError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _show(console: Console, account: RunCosts) -> None:
    numbers = ("prompt tokens", "cached", "new tokens", "engine s", "money")
    stages = table("stage", "items", *numbers, right=("items", *numbers))
    for stage in account.stages:
        stages.add_row(stage.stage, f"{stage.num_items:,}", *_cells(stage.amount))
    stages.add_row("total", "", *_cells(account.total), style="bold")
    console.print(stages)
    outcomes = table("arm", "ended as", "reason", "units", *numbers, right=("units", *numbers))
    for one in account.outcomes:
        outcomes.add_row(one.arm, one.state, one.reason, f"{one.num_units:,}", *_cells(one.amount))
    outcomes.add_row("of no unit", "", "", "", *_cells(account.unattributed), style="dim")
    console.print()
    console.print(outcomes)
    if account.per_accepted_row is None:
        console.print(Styled("\nno row was gained"))
        return
    per_row = dataclasses.asdict(account.per_accepted_row)
    told = ", ".join(f"{amount:,.6g} {name.replace('_', ' ')}" for name, amount in per_row.items() if amount)
    console.print(Styled(f"\n{account.accepted_rows:,} rows gained; each took {told or 'nothing that is counted'}"))


def _cells(amount: Amount) -> tuple[str, ...]:
    tokens = (amount.prompt_tokens, amount.cached_tokens, amount.new_tokens)
    return (*(f"{number:,.0f}" for number in tokens), f"{amount.seconds:,.1f}", f"{amount.money:,.4f}")
