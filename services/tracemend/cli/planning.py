"""`tracemend run --dry-run` and `tracemend estimate`: what a run file is worth before anything is spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text as Styled

from tracemend.cli.showing import checks, gigabytes, print_json, table, wide_console
from tracemend.embedded.assumptions import assumptions_of
from tracemend.embedded.checking import check_run
from tracemend.embedded.estimating import Estimate
from tracemend.embedded.estimating import estimate as estimated
from tracemend.embedded.memory import MemoryNeed
from tracemend.embedded.runfile import RunFile, load_run_file

EXIT_SETUP = 2


def dry_run(settings: RunFile, *, as_json: bool) -> None:
    """Print what was checked; exit with 2 if anything is wrong."""
    found = check_run(settings)
    if as_json:
        print_json([dataclasses.asdict(check) for check in found])
    else:
        checks(wide_console(), [(check.what, check.holds, check.detail) for check in found])
    num_wrong = sum(not check.holds for check in found)
    if num_wrong:
        raise SystemExit(EXIT_SETUP)


def estimate(run_file: Path, *, given: list[str], limit: int | None, as_json: bool) -> None:
    """Print tokens, money, hours, rows and memory."""
    settings = load_run_file(run_file)
    if limit is not None:
        settings = settings.model_copy(update={"limit": limit})
    assumed = dict(item.partition("=")[::2] for item in given)
    result = estimated(settings, assumptions_of(assumed))
    if as_json:
        totals = {"num_tokens": result.num_tokens, "money": result.money, "hours": result.hours}
        memory = [{**dataclasses.asdict(need), "fits": need.fits} for need in result.memory]
        print_json({**dataclasses.asdict(result), "memory": memory, "total": totals})
        return
    _show(wide_console(), result)


def _show(console: Console, result: Estimate) -> None:
    sources = ", ".join(f"{name} {'?' if number is None else f'{number:,}'}" for name, number in result.prompts.items())
    console.print(Styled(f"prompts  {sources}"))
    if result.uncounted:
        _show_uncounted(console, result.uncounted)
    work = table("step", "calls", "tokens", "money", "GPU hours", right=("calls", "tokens", "money", "GPU hours"))
    for item in result.items:
        work.add_row(item.what, f"{item.num_calls:,}", f"{item.num_tokens:,}", *_price(item.money, item.hours))
    work.add_row(
        "total, at least" if result.uncounted else "total",
        "",
        f"{result.num_tokens:,}",
        *_price(result.money, result.hours),
        style="bold",
    )
    console.print(work)
    if result.rows:
        rows = ", ".join(f"{arm} {number:,}" for arm, number in result.rows.items())
        least = ", at least" if result.uncounted else ""
        console.print(Styled(f"\nrows to expect{least}  {rows}"))
    if result.memory:
        console.print()
        _show_memory(console, result.memory)
    for note in result.notes:
        console.print(Styled(f"note  {note}", style="yellow"))
    console.print(Styled("\nassumed (change one with --assume NAME=NUMBER)", style="dim"))
    assumed = ", ".join(f"{name} {value:g}" for name, value in dataclasses.asdict(result.assumptions).items())
    console.print(Padding(Styled(assumed, style="dim"), (0, 0, 0, 2)))


def _show_uncounted(console: Console, uncounted: Mapping[str, str]) -> None:
    console.print(Styled("\nNot counted, so every figure below leaves it out:", style="yellow"))
    for name, remedy in uncounted.items():
        console.print(Padding(Styled(f"{name}: {remedy}", style="yellow"), (0, 0, 0, 2)))
    console.print()


def _show_memory(console: Console, needs: tuple[MemoryNeed, ...]) -> None:
    memory = table("machine", "phase", "per GPU", "has", "", right=("per GPU", "has"))
    for need in needs:
        fits = Styled("fits", style="green") if need.fits else Styled(f"too large: {need.advice}", style="red")
        memory.add_row(need.machine, need.phase, gigabytes(need.need_bytes), gigabytes(need.have_bytes), fits)
    console.print(memory)


def _price(money: float, hours: float) -> tuple[str, str]:
    return (f"{money:,.2f}" if money else "", f"{hours:,.2f}" if hours else "")
