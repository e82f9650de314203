"""The commands and their arguments. Bodies live in the modules that the commands import when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="tracemend",
    help="Find where a reasoning model's trace turns unsafe, mend it there, retrain the model, measure what changed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunFileArgument = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop on the proving ground: a tiny model, five arms, a report. No download, no GPU."""
    from tracemend.cli.running import demo as body

    body(out, as_json=as_json)


@app.command()
def run(
    run_file: RunFileArgument,
    out: Annotated[Path, typer.Option(help="Folder of the run; started again, it goes on there.")],
    limit: Annotated[int | None, typer.Option(help="Take only the first N prompts of every source.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything that can be checked, then stop.")] = False,
    from_phase: Annotated[
        str | None, typer.Option("--from", metavar="PHASE", help="Do again from: sample, judge, correct.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole loop in one process. Killed and started again with the same command, it goes on."""
    from tracemend.cli.running import run as body

    body(run_file, out, limit=limit, dry_run=dry_run, from_phase=from_phase, as_json=as_json)


@app.command()
def verify(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Check the run's conservation laws: nothing lost, nothing doubled, every row judged. Exits with 3 if broken."""
    from tracemend.cli.looking import verify as body

    body(folder, as_json=as_json)


@app.command()
def failures(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """What did not end well, grouped by reason, with the remedy."""
    from tracemend.cli.looking import show_failures

    show_failures(folder, as_json=as_json)
