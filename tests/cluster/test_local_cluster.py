"""`examples/local-cluster.sh`: the six services as the cluster's page starts them, used as it says."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.spine import drop_schema
from tests.contract.ledgers import postgresql_url
from tests.contract.s3_buckets import new_bucket
from tests.needs import needs_server

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "local-cluster.sh"
ON_PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@contextmanager
def local_cluster(folder: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """The script at work, stopped where the block has not stopped it: by SIGTERM, as whoever starts the tests in the
    background has SIGINT ignored."""
    process = subprocess.Popen(
        [SCRIPT, str(folder)],
        env={**os.environ, **ON_PATH, **settings},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=90)


@pytest.mark.slow
async def test_a_run_is_submitted_killed_into_and_watched_on_a_local_cluster(tmp_path: Path) -> None:
    kafka = needs_server("KAFKA_BOOTSTRAP_SERVERS")
    ledger = postgresql_url(tmp_path)
    async with new_bucket("") as bucket:
        settings = {
            "TRACEMEND_BUS": f"kafka:{kafka}?namespace=t{secrets.token_hex(4)}-",
            "TRACEMEND_STORE": f"s3:{bucket.settings.bucket}",
            "TRACEMEND_LEDGER": ledger,
            "PORT": str(free_ports(16)),
        }
        with local_cluster(tmp_path, **settings) as script:
            wait_until_ready(script)
            environment = client_environment(tmp_path / "client.env")
            run = told("submit", str(slow_run(tmp_path)), "--json", env=environment)["run"]
            os.kill(int((tmp_path / "generator.pid").read_text()), signal.SIGKILL)
            watched = tracemend("watch", run, env=environment)
            assert watched.returncode == 0, watched.stderr
            assert f"{run} done: 20/20 units" in watched.stderr
            (listed,) = told("runs", "--json", env=environment)
            assert (listed["run"], listed["state"], listed["submitter"]) == (run, "done", "local")
            assert told("costs", run, "--json", env=environment)["total"]["new_tokens"] > 0
            assert tracemend("runs", env={**environment, "TRACEMEND_TOKEN_FILE": ""}).returncode == 2
            os.killpg(script.pid, signal.SIGTERM)
            _, said = script.communicate(timeout=90)
            assert script.returncode in (0, 4), said
            assert "generator ended with 137" in said
        assert list(tmp_path.glob("*.pid")) == []
    drop_schema(ledger)


def test_without_servers_the_script_says_what_to_set(tmp_path: Path) -> None:
    names = ("TRACEMEND_BUS", "KAFKA_BOOTSTRAP_SERVERS")
    bare = {name: value for name, value in os.environ.items() if name not in names} | ON_PATH
    ended = subprocess.run([SCRIPT, str(tmp_path)], env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "set KAFKA_BOOTSTRAP_SERVERS" in ended.stderr


def slow_run(folder: Path) -> Path:
    """A run file that takes a few seconds: long enough to be killed into."""
    path = folder / "run.yaml"
    path.write_text(
        "name: slow\n"
        "prompts: [{source: numbered, count: 20}]\n"
        "ingestion: {filters: {near_duplicates: false}}\n"
        "target: {model: 'null', engine: 'scripted:null_target', engine_options: {delay_s: 2.0}, samples: 1}\n"
        "judge: {harm: {name: last_word}, refusal: {name: last_word}, correctness: {name: last_word}}\n"
        "arms: {filter: {correct: {strategy: filter}}}\n"
    )
    return path


def wait_until_ready(script: subprocess.Popen[str]) -> None:
    assert script.stderr is not None
    said = ""
    for line in script.stderr:
        said += line
        if "six services are ready" in line:
            return
    pytest.fail(f"the script ended with {script.wait()}:\n{said}")


def client_environment(path: Path) -> dict[str, str]:
    """The environment after `set -a; . FILE; set +a`."""
    assert path.stat().st_mode & 0o077 == 0, "it holds secrets"
    command = f"set -a; . {path}; exec {sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    sourced: dict[str, str] = json.loads(subprocess.check_output(["bash", "-c", command], text=True))
    return sourced


def tracemend(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracemend.cli", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def told(*arguments: str, env: dict[str, str]) -> Any:
    ended = tracemend(*arguments, env=env)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def free_ports(number: int) -> int:
    """The first of `number` ports in a row that are free now."""
    for first in range(20_000 + time.time_ns() % 9_000, 32_000, number):
        sockets = [socket.socket() for _ in range(number)]
        try:
            for offset, one in enumerate(sockets):
                one.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        else:
            return first
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports in a row")
