"""`tracemend topics`: the bus's topics beside the catalogue, and making them so."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

app = typer.Typer(
    help="Compare the bus's topics with the catalogue, and make them so.", no_args_is_help=True, rich_markup_mode=None
)

BusOption = Annotated[
    str,
    typer.Option("--bus", envvar="TRACEMEND_BUS", metavar="URL", help="kafka:HOST:PORT[,HOST:PORT…][?namespace=NAME]."),
]
TargetOption = Annotated[
    list[str] | None, typer.Option("--target", metavar="NAME", help="A served target; once for each.")
]
ReplicationOption = Annotated[int, typer.Option(min=1, help="Brokers that keep each record.")]
MinIsrOption = Annotated[int, typer.Option(min=1, help="How many of them must have it before it counts as written.")]


@app.command("diff", short_help="What lacks or differs; exit code 1 if anything does.")
def diff(
    bus: BusOption, target: TargetOption = None, replication: ReplicationOption = 3, min_isr: MinIsrOption = 2
) -> None:
    """One line per topic that lacks or is not as the catalogue says."""
    lines = _differences(bus, target or [], replication, min_isr)
    for line in lines:
        print(line)
    raise typer.Exit(1 if lines else 0)


@app.command("apply", short_help="Create and change topics; never shrinks or deletes.")
def apply(
    bus: BusOption, target: TargetOption = None, replication: ReplicationOption = 3, min_isr: MinIsrOption = 2
) -> None:
    """Make the topics of the catalogue, their delay topics and dead letters, as the catalogue says."""
    for line in _applied(bus, target or [], replication, min_isr):
        print(line)


def _differences(bus: str, targets: list[str], replication: int, min_isr: int) -> list[str]:
    from tracemend.runtime.opening import open_topic_keeper
    from tracemend.topics import of_targets

    keeper = open_topic_keeper(bus, replication=replication, min_isr=min_isr)
    return list(asyncio.run(keeper.differences(of_targets(targets))))


def _applied(bus: str, targets: list[str], replication: int, min_isr: int) -> list[str]:
    from tracemend.runtime.opening import open_topic_keeper
    from tracemend.topics import of_targets

    keeper = open_topic_keeper(bus, replication=replication, min_isr=min_isr)
    return list(asyncio.run(keeper.apply(of_targets(targets))))
