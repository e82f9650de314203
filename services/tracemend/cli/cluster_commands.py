"""The commands that need a cluster, and their arguments; `app` adds them to its own. Bodies live in `submitting`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ToOption = Annotated[
    str, typer.Option("--to", metavar="HOST:PORT", envvar="TRACEMEND_TO", help="The cluster's ingestion service.")
]
MaybeToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="HOST:PORT", help="Ask the cluster there; DIR is then the id of a run on it."),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run on the cluster.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_commands(app: typer.Typer) -> None:
    """Add them to `app`."""
    app.command(short_help="Run a run file on a cluster.")(submit)
    app.command(short_help="The runs on a cluster.")(runs)
    app.command(short_help="How a run on a cluster moves.")(watch)
    app.command(short_help="End a run on a cluster for good.")(cancel)
    app.command(short_help="Halt a run on a cluster.")(pause)
    app.command(short_help="Go on with a paused run on a cluster.")(resume)


def submit(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    to: ToOption,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only the first N rows of every prompt source and benchmark.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Have the cluster check the plan, then stop.")] = False,
    watch: Annotated[bool, typer.Option(help="Stay and watch it to its end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Begin a run on a cluster, upload its prompts and seal it. Given again after a cut, the command goes on."""
    from tracemend.cli.submitting import submit as body

    body(run_file, to=to, limit=limit, dry_run=dry_run, watches=watch, as_json=as_json)


def runs(
    to: ToOption,
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The runs on a cluster, the newest first."""
    from tracemend.cli.submitting import list_runs

    list_runs(to=to, states=state or [], as_json=as_json)


def watch(run: RunArgument, to: ToOption, as_json: JsonOption = False) -> None:
    """Show how a run moves until it ends. Exits with 5 if it failed or was cancelled."""
    from tracemend.cli.submitting import watch as body

    body(run, to=to, as_json=as_json)


def cancel(run: RunArgument, to: ToOption, as_json: JsonOption = False) -> None:
    """End a run for good: its open units end as cancelled."""
    _move(run, "cancel", to=to, as_json=as_json)


def pause(run: RunArgument, to: ToOption, as_json: JsonOption = False) -> None:
    """Halt a run; `resume` goes on with it, and nothing is lost."""
    _move(run, "pause", to=to, as_json=as_json)


def resume(run: RunArgument, to: ToOption, as_json: JsonOption = False) -> None:
    """Go on with a paused run."""
    _move(run, "resume", to=to, as_json=as_json)


def _move(run: str, verb: str, *, to: str, as_json: bool) -> None:
    from tracemend.cli.submitting import move

    move(run, verb, to=to, as_json=as_json)
