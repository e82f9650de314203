"""Runs on a cluster from the command line: `submit`, `runs`, `watch`, `cancel`, `pause`, `resume`, and the cluster's
side of `trace` and `redrive`.

The run file is read and resolved here, its prompts are read here and uploaded; all else happens on the cluster. Model
text never comes this way. Who the client is and whom it trusts comes from the environment, so that it stands in no
shell history: TRACEMEND_TOKEN_FILE, TRACEMEND_CA_FILE, TRACEMEND_CERT_FILE, TRACEMEND_KEY_FILE, TRACEMEND_PLAINTEXT.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text as Styled

from tracemend.cli.showing import inert, print_json, table, wide_console
from tracemend.client import CallError, Client, Progress, PromptRow, Run, RunStatus, UnreadableRow
from tracemend.client.rows import AnyRow
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.runfile import load_run_file
from tracemend.embedded.sourcing import read
from tracemend.ingestion.rows import BadRow, Row
from tracemend.ingestion.service import invalid
from tracemend.kit.errors import SetupError
from tracemend.kit.run_states import RunState

EXIT_RUN_FAILED = 5
"""The run that was waited for failed or was cancelled."""
_PATIENCE_S = 120.0
_TO_CHANGE = frozenset(
    {
        "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
        "UNAUTHENTICATED", "ABORTED", "UNIMPLEMENTED",
    }
)  # fmt: skip
"""Codes of refusals that the user can do something about."""
_COLOURS = {RunState.DONE: "green", RunState.FAILED: "red", RunState.CANCELLED: "red", RunState.PAUSED: "yellow"}


class WaitTold:
    """Says that a cluster is waited for: once for each cause, not for every try."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, failed: CallError) -> None:
        if failed.code != self._told:
            print(f"tracemend: {failed}; trying for {_PATIENCE_S:.0f} s", file=sys.stderr)
            self._told = failed.code


@contextmanager
def cluster(address: str, *, patience_s: float = _PATIENCE_S) -> Iterator[Client]:
    """A client of the cluster at `address`; what it refuses for a reason of the user's is a `SetupError`. One that is
    out of reach is waited for with `patience_s`, and the user is told."""
    try:
        with Client(
            address,
            ca_file=os.environ.get("TRACEMEND_CA_FILE") or None,
            cert_file=os.environ.get("TRACEMEND_CERT_FILE") or None,
            key_file=os.environ.get("TRACEMEND_KEY_FILE") or None,
            token_file=os.environ.get("TRACEMEND_TOKEN_FILE") or None,
            plaintext=os.environ.get("TRACEMEND_PLAINTEXT", "") in ("1", "true"),
            patience_s=patience_s,
            on_wait=WaitTold() if patience_s else None,
        ) as client:
            yield client
    except CallError as error:
        if error.code in _TO_CHANGE:
            hint = "; TRACEMEND_TOKEN_FILE names the file of your token" if error.code == "UNAUTHENTICATED" else ""
            raise SetupError(f"{address}: {error}{hint}") from None
        raise


def submit(run_file: Path, *, to: str, limit: int | None, dry_run: bool, watches: bool, as_json: bool) -> None:
    """Begin the run, upload its prompts, seal it, and watch it where that is asked for."""
    settings = load_run_file(run_file)
    if limit is not None:
        settings = settings.model_copy(update={"limit": limit})
    plan = resolve(settings)
    with cluster(to) as client:
        if dry_run:
            checked = client.check(plan.content)
            _tell({"run": checked.id, "target": checked.target}, f"{checked.id} can be submitted", as_json=as_json)
            return
        run = _uploaded(client, plan, as_json=as_json)
        state = run.status().state
        if state is RunState.CANCELLED:
            raise SetupError(
                f"{run.id} was cancelled, for good; to have the work done anew, change the run file's name"
            )
        if state is RunState.PAUSED:
            words = f"{run.id} is paused, and has the limits of {run_file} from now on"
            words += f"\nGo on: tracemend resume {run.id} --to {to}"
            _tell({"run": run.id, "state": RunState.PAUSED.value}, words, as_json=as_json)
            return
        if not watches:
            _tell({"run": run.id}, f"{run.id}\nWatch it: tracemend watch {run.id} --to {to}", as_json=as_json)
            return
        _follow(run, as_json=as_json)


def _uploaded(client: Client, plan: Plan, *, as_json: bool) -> Run:
    console = Console(stderr=True)

    def told(progress: Progress) -> None:
        if console.is_terminal and not as_json:
            console.print(f"{progress.num_rows:,} prompts uploaded", end="\r", highlight=False)

    run = client.submit(plan.content, rows_of(plan), on_progress=told)
    if console.is_terminal and not as_json:
        console.print()
    return run


def rows_of(plan: Plan) -> Iterator[AnyRow]:
    """The prompts that the run file names, as they travel: what was unreadable here, or could not be sent, says so."""
    for row in read(plan.run.prompts, first=plan.run.limit):
        yield _travelling(row, max_chars=plan.run.ingestion.max_chars)


def _travelling(row: Row | BadRow, *, max_chars: int) -> PromptRow | UnreadableRow:
    if isinstance(row, BadRow):
        return UnreadableRow(where=row.where, source=row.source, reason=row.reason, detail=row.detail)
    refusal = invalid(row, max_chars=max_chars)
    if refusal is not None and refusal.reason == "bad_unicode":  # no message can hold it: refused in the same words
        return UnreadableRow(where=row.where, source=row.source, reason=refusal.reason, detail=refusal.detail)
    return PromptRow(
        text=row.text,
        category=row.category,
        source=row.source,
        where=row.where,
        licence=row.licence,
        split=row.split,
        tags=row.tags,
        reference=row.reference,
    )


def list_runs(*, to: str, states: Iterable[str], as_json: bool) -> None:
    """Print the runs, the newest first."""
    wanted = [_state(word) for word in states]
    with cluster(to) as client:
        found = list(client.runs(states=wanted))
    if as_json:
        print_json([plain(status) for status in found])
        return
    shown = table("run", "state", "target", "submitted by", "reason")
    for status in found:
        state = Styled(status.state.value, style=_COLOURS.get(status.state, "none"))
        shown.add_row(status.id, state, status.target, inert(status.submitter), inert(status.reason))
    wide_console().print(shown if found else "No runs.")


def watch(run: str, *, to: str, as_json: bool) -> None:
    """Show how the run moves until it ends."""
    with cluster(to) as client:
        _follow(client.run(run), as_json=as_json)


def move(run: str, verb: str, *, to: str, as_json: bool) -> None:
    """`cancel`, `pause` or `resume` the run."""
    with cluster(to) as client:
        status: RunStatus = getattr(client.run(run), verb)()
    _tell(plain(status), f"{status.id} is {status.state.value}", as_json=as_json)


def trace(run: str, wanted: str, *, to: str, as_json: bool) -> None:
    """Print one row's story; texts are digests."""
    with cluster(to) as client:
        story = client.run(run).trace(wanted)
    if as_json:
        print_json(story)
        return
    console = Console(highlight=False, soft_wrap=True)
    prompt = story["prompt"]
    console.print(Styled(prompt["id"], style="bold"))
    console.print(Styled(f"  row {story['row']} · {inert(prompt['source'])} · {_digest(prompt['text'])}", style="dim"))
    for title in ("samples", "rewrites", "forks"):
        if story[title]:
            console.print(Styled(f"\n{title}", style="bold"))
        for verdict in story[title]:
            console.print(Styled(f"  {_verdict_line(verdict)}"))
    console.print(Styled("\noutcomes", style="bold"))
    for outcome in story["outcomes"]:
        unit, state = outcome["unit"], outcome["state"].removeprefix("OUTCOME_STATE_").lower()
        reason = f" ({outcome['reason']})" if outcome["reason"] else ""
        console.print(Styled(f"  {unit['arm']}: {state}{reason}  {outcome['id']}"))
    for row in story["published"]:
        console.print(Styled(f"  published in {row['arm']}, row {row['row']} ({row['example']})"))
    if int(story["num_open_units"]):
        console.print(Styled(f"  {story['num_open_units']} units are still open", style="yellow"))


def redrive(run: str, *, to: str, arm: str | None, reason: str | None, dry_run: bool, as_json: bool) -> None:
    """Open units that ended badly anew, and the cluster ends them once more; with `dry_run` only count them."""
    with cluster(to) as client:
        redriven = client.run(run).redrive(arm=arm or "", reason=reason or "", dry_run=dry_run)
    if as_json:
        print_json(redriven)
        return
    for cause, number in sorted(redriven.reasons.items(), key=lambda item: (-item[1], item[0])):
        print(f"{number:,} ended {cause}")
    print(f"{redriven.num_units:,} units {'would be' if dry_run else 'are'} open again")


def plain(status: RunStatus) -> dict[str, Any]:
    """A status as JSON values."""
    told = {field.name: getattr(status, field.name) for field in dataclasses.fields(status)}
    outcomes = [
        {"arm": arm, "state": state, "reason": reason, "number": number}
        for (arm, state, reason), number in status.outcomes.items()
    ]
    return {"run": status.id, **told, "outcomes": outcomes, "costs": dict(status.costs), "money": status.money}


def _follow(run: Run, *, as_json: bool) -> None:
    """Show every status until the last; exits with `EXIT_RUN_FAILED` where that is no success."""
    console = Console(stderr=not as_json)
    last: RunStatus | None = None
    with Live(console=console, transient=False, auto_refresh=False) as live:
        for status in run.watch():
            if as_json:
                print_json(plain(status))
            elif console.is_terminal:
                live.update(_panel(status), refresh=True)
            elif last is None or _line(status) != _line(last):
                console.print(_line(status), markup=False, highlight=False, soft_wrap=True)
            last = status
    assert last is not None, "a watch ends with a final status"
    if last.state is not RunState.DONE:
        raise SystemExit(EXIT_RUN_FAILED)


def _line(status: RunStatus) -> str:
    """One status in one line, for logs."""
    states = ", ".join(f"{number:,} {state}" for state, number in sorted(status.states.items()))
    line = f"{status.id} {status.state.value}: {status.num_ended:,}/{status.num_units:,} units"
    return line + (f" ({states})" if states else "") + (f" {inert(status.reason)}" if status.reason else "")


def _panel(status: RunStatus) -> RenderableType:
    """One status on a terminal."""
    head = Styled(status.id, style="bold").append(f"  {status.state.value}", style=_COLOURS.get(status.state, "cyan"))
    if status.reason:
        head.append(f"  {inert(status.reason)}", style="dim")
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=max(status.num_units, 1), completed=status.num_ended, width=40),
        f"{status.num_ended:,}/{status.num_units:,} units",
    )
    rows = [f"{status.num_received:,} received", f"{status.num_admitted:,} admitted", f"{status.num_refused:,} refused"]
    facts = [*rows, *(f"{number:,} {state}" for state, number in sorted(status.states.items()))]
    facts += [f"cost {status.money:,.2f}"] if status.money else []
    return Group(head, bar, Styled(" · ".join(facts), style="dim"))


def _state(word: str) -> RunState:
    try:
        return RunState(word)
    except ValueError:
        raise SetupError(f"no state '{word}'; known: {', '.join(RunState)}") from None


def _verdict_line(verdict: Mapping[str, Any]) -> str:
    trajectory = verdict["trajectory"]
    values = ", ".join(
        f"{part} {verdict[part]['value'].removeprefix('VALUE_').lower()}" for part in ("reasoning", "answer", "whole")
    )
    texts = f"{_digest(trajectory['reasoning'])} {_digest(trajectory['answer'])}"
    return f"sample {trajectory['sample']}, round {trajectory['round']}: {values}  {texts}  {trajectory['id']}"


def _digest(text: Mapping[str, Any]) -> str:
    return f"<text {text['digest']} {text['num_chars']} chars>"


def _tell(facts: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        print(words)
