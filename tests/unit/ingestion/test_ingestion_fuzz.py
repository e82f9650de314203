"""Whatever bytes are thrown at the ingestion service, no call ends in a bug's status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grpc import aio
from tests.fuzzing import fuzz
from tests.ingestion_server import ingestion, letter, plan

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.client import AsyncClient
from tracemend.runtime.rpc.methods import methods_of

METHODS = list(methods_of(pb.DESCRIPTOR.services_by_name["IngestionService"]))
NAMED = ("GetRun", "CancelRun", "PauseRun", "ResumeRun", "WatchRun", "SealRun")
LISTED = ("ListOutcomes", "RedriveUnits", "ListDeadLetters", "RedriveDeadLetters")


def valid() -> dict[str, Any]:
    requests: dict[str, Any] = {name: getattr(pb, f"{name}Request")(name="runs/demo-1") for name in NAMED}
    requests |= {name: getattr(pb, f"{name}Request")(parent="runs/demo-1") for name in LISTED}
    requests["TraceRecord"] = pb.TraceRecordRequest(parent="runs/demo-1", id="x")
    requests["GetUpload"] = pb.GetUploadRequest(name="runs/demo-1/uploads/a")
    requests["GetTrajectoryText"] = pb.GetTrajectoryTextRequest(name="runs/demo-1/trajectories/a")
    requests["CreateRun"] = pb.CreateRunRequest(plan=plan(), plan_digest="0" * 64, request_id="a")
    header = pb.UploadHeader(parent="runs/demo-1", request_id="a")
    requests["UploadPrompts"] = pb.UploadPromptsRequest(header=header)
    return requests


async def test_mutated_and_random_requests_are_refused_and_break_nothing(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        served.work.letters_kept = [letter(n) for n in range(10)]
        async with AsyncClient(served.address) as client:
            await client.begin(plan())
            counts = await fuzz(
                channel, METHODS, number=2000, seed=7, valid=valid(), x_tracemend_purpose="to see what breaks"
            )
            assert {method.name for method in METHODS} == {name.partition(":")[0] for name in counts}
            assert (await client.run("demo-1").status()).display_name == "demo"
