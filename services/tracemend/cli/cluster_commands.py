"""The commands that need a cluster, and their arguments; `app` adds them to its own.

Bodies live in `submitting`, `ended` and `top`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

ToOption = Annotated[
    str, typer.Option("--to", metavar="HOST:PORT", envvar="TRACEMEND_TO", help="The cluster's ingestion service.")
]
MaybeToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="HOST:PORT",
        help="The cluster to ask; DIR is then the id of a run. TRACEMEND_TO says it too.",
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run on the cluster.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def cluster_of(folder: Path, to: str | None) -> str | None:
    """The cluster that a command is about, which takes a folder as well: a folder that is there goes before
    TRACEMEND_TO, and nothing goes before `--to`."""
    return to or (None if folder.is_dir() else os.environ.get("TRACEMEND_TO") or None)


def add_commands(app: typer.Typer) -> None:
    """Add them to `app`."""
    app.command(short_help="Run a run file on a cluster.")(submit)
    app.command(short_help="The runs on a cluster.")(runs)
    app.command(short_help="How a run on a cluster moves.")(watch)
    app.command(short_help="Queues, replicas, rates, GPUs and runs of a cluster, live.")(top)
    app.command(short_help="How units of a run on a cluster ended.")(outcomes)
    app.command(short_help="Messages that a cluster gave up, and sending them again.")(letters)
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


def top(
    to: Annotated[
        str, typer.Option("--to", metavar="HOST:PORT", envvar="TRACEMEND_TO", help="Its ingestion service: runs.")
    ] = "",
    bus: Annotated[
        str, typer.Option(metavar="URL", envvar="TRACEMEND_BUS", help="Its bus: what waits. Else services tell it.")
    ] = "",
    metrics: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", envvar="TRACEMEND_METRICS", help="/metrics of a process; once for each."),
    ] = None,
    namespace: Annotated[
        str,
        typer.Option(
            metavar="NAME", envvar="TRACEMEND_NAMESPACE", help="Its Kubernetes namespace: all processes there."
        ),
    ] = "",
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="Between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per look.")] = False,
) -> None:
    """Queues with their lag in seconds, replicas, rates, engines, GPUs and runs of a cluster, until Ctrl-C.

    It shows what it is given access to; what does not answer is named and does not end it. GPUs are those of the
    DCGM exporters among the metrics.
    """
    from tracemend.cli.top import Access
    from tracemend.cli.top import top as body

    access = Access(to=to, bus=bus, metrics=tuple(metrics or ()), namespace=namespace)
    body(access, every_s=every, once=once, as_json=as_json)


def outcomes(
    run: RunArgument,
    to: ToOption,
    arm: Annotated[str, typer.Option(metavar="ARM", help="Only units of this arm.")] = "",
    state: Annotated[list[str] | None, typer.Option(help="Only units that ended so; may be repeated.")] = None,
    reason: Annotated[str, typer.Option(metavar="REASON", help="Only units that ended for it.")] = "",
    prompt: Annotated[str, typer.Option(metavar="ID", help="Only units of this prompt.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """How units of a run ended, and why: prompt by prompt. `trace` takes the ids."""
    from tracemend.cli.ended import outcomes as body

    body(run, to=to, arm=arm, states=state or [], reason=reason, prompt=prompt, limit=limit, as_json=as_json)


def letters(
    run: RunArgument,
    to: ToOption,
    topic: Annotated[str, typer.Option(metavar="TOPIC", help="Only those given up on this topic.")] = "",
    stage: Annotated[str, typer.Option(metavar="STAGE", help="Only those that this stage gave up.")] = "",
    reason: Annotated[str, typer.Option(metavar="REASON", help="Only those given up for it.")] = "",
    redrive: Annotated[bool, typer.Option("--redrive", help="Have them delivered again.")] = False,
    most: Annotated[int, typer.Option(metavar="N", min=0, help="Deliver at most so many; 0 for all.")] = 0,
    rate: Annotated[float, typer.Option(metavar="N", min=0, help="Deliver so many a second; 0 for no limit.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what --redrive would deliver.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The messages of a run that were given up, the oldest first."""
    from tracemend.cli.ended import deliver_again, list_letters

    which = {"topic": topic, "stage": stage, "reason": reason}
    if redrive or dry_run:
        deliver_again(run, which, to=to, most=most, per_s=rate, dry_run=dry_run, as_json=as_json)
    else:
        list_letters(run, which, to=to, as_json=as_json)


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
