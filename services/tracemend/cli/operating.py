"""The commands of whoever operates a cluster, and their arguments; `app` registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    service: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE", help="ingestion, generator, judge, corrector, trainer, evaluator or operator."
        ),
    ],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings as YAML; TRACEMEND_ variables come first.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the settings, then stop.")] = False,
) -> None:
    """One service as a process: ingestion, generator, judge, corrector, trainer, evaluator, or the operator that runs
    jobs on Kubernetes. docs/settings.md lists
    settings and exit codes."""
    from tracemend.cli.serve import serve as body

    body(service, config=config, check=check)


def costs(
    run: Annotated[str, typer.Argument(metavar="RUN|DIR", help="The folder of a run, or the id of a cluster's run.")],
    prices: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prices by stage as YAML, for stages whose engines asked for no money."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a run took: tokens, engine seconds and money by stage, by how its units ended, and per row gained. For a
    cluster's run, TRACEMEND_LEDGER and TRACEMEND_STORE say where it is kept."""
    from tracemend.cli.costs import costs as body

    body(run, prices=prices, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(short_help="One service of the cluster as a process.")(serve)
    app.command(short_help="What a run took, and for what.")(costs)
