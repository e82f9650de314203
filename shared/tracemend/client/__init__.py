"""The client of a tracemend cluster: submit prompts, watch them move, read how they ended.

    from tracemend.client import Client, PromptRow

    with Client("cluster.example:8443", ca_file="ca.pem", token_file="token") as client:
        run = client.submit(plan, prompts=(PromptRow(text=t, category="harmful") for t in texts))
        for status in run.watch():
            print(status.num_ended, "of", status.num_units)

`AsyncClient` is the same for asyncio. Both need `pip install 'tracemend[cluster]'`.
"""

from tracemend.client.aio import AsyncClient, AsyncRun
from tracemend.client.blocking import Client, Run
from tracemend.client.errors import CallError
from tracemend.client.rows import PromptRow, UnreadableRow
from tracemend.client.uploading import Progress
from tracemend.client.values import DeadLetter, OutcomeRow, Redriven, RunStatus, TrajectoryText

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "CallError",
    "Client",
    "DeadLetter",
    "OutcomeRow",
    "Progress",
    "PromptRow",
    "Redriven",
    "Run",
    "RunStatus",
    "TrajectoryText",
    "UnreadableRow",
]
