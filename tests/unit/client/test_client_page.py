"""The code on docs/client.md runs, block after block, against a real ingestion server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from tests import builders
from tests.ingestion_server import FakePlans, Served, ingestion, letter

from tracemend.ingestion.needs import CheckedPlan
from tracemend.kit.run_states import RunState
from tracemend.runtime.rpc.settings import RpcSettings

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "client.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class AnyPlan(FakePlans):
    """Takes any run file's plan."""

    async def check(self, content: bytes) -> CheckedPlan:
        return CheckedPlan(run="null-2000-1", name=json.loads(content)["name"], target="tiny")


async def test_the_blocks_of_the_page_run_in_order(tmp_path: Path) -> None:
    told: dict[str, Any] = {}
    async with ingestion(tmp_path, plans=AnyPlan(), rpc=with_token(tmp_path)) as served:
        verdict = builders.verdict()
        served.work.stories["prompt_uvk5ihm"] = SimpleNamespace(
            matched="prompt", row=1, prompt=verdict.trajectory.prompt, samples=(verdict,), rewrites=(), forks=(),
            outcomes=(), published=(), num_open=0,
        )  # fmt: skip
        served.work.trajectories[verdict.trajectory.id] = verdict.trajectory
        served.work.letters_kept.append(letter(1))
        moving = asyncio.create_task(move_once_sealed(served, "null-2000-1"))
        await asyncio.to_thread(exec, compile(page_code(served, tmp_path), str(PAGE), "exec"), told)
        await moving
    assert told["run"].id == "null-2000-1"
    assert told["status"].state is RunState.DONE
    assert told["would"].num_units == 3
    assert (told["matched"], told["published"]) == (1, 0)
    assert told["shown"] == verdict.trajectory.answer.reveal()


def with_token(folder: Path) -> RpcSettings:
    """One token, as `examples/local-cluster.sh` makes it."""
    (folder / "token").write_text("secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    entry = {"name": "local", "sha256": digest, "roles": ["submitter", "operator", "reviewer", "auditor"]}
    (folder / "tokens.yaml").write_text(yaml.safe_dump([entry]))
    return RpcSettings(listen="127.0.0.1:0", tokens_file=folder / "tokens.yaml")


def page_code(served: Served, folder: Path) -> str:
    """All blocks, with the page's address and files as they are here."""
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 5
    here = {
        "127.0.0.1:7440": served.address,
        "runs/cluster/token": str(folder / "token"),
        "examples/": f"{ROOT}/examples/",
    }
    code = "\n".join(blocks)
    for there, it in here.items():
        assert there in code
        code = code.replace(there, it)
    return code


async def move_once_sealed(served: Served, run: str) -> None:
    """What the other services would do."""
    async with asyncio.timeout(60):
        while True:
            record = await served.tables.runs.get(run)
            if record is not None and record.state is RunState.SEALED:
                break
            await asyncio.sleep(0.05)
    await served.tables.runs.set_state(run, RunState.RUNNING)
    await served.tables.runs.set_state(run, RunState.DONE)
