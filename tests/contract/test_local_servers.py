"""The local servers of docker/: what compose starts is what docker/servers.env points at; a control's verbs work."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from tests.servers import COMPOSE_FILE, CommandControl, ComposeControl, broken

DOCKER = COMPOSE_FILE.parent
WRITES_DOWN = "import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + '\\n')"


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    return found


def environment() -> dict[str, str]:
    lines = (DOCKER / "servers.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_server_listens_on_loopback_where_the_environment_points() -> None:
    ports = {}
    for name, service in services().items():
        (published,) = service["ports"]
        host, outside, _ = published.split(":")
        assert host == "127.0.0.1"
        ports[name] = outside
    told = environment()
    assert told["KAFKA_BOOTSTRAP_SERVERS"] == f"127.0.0.1:{ports['kafka']}"
    assert urlsplit(told["S3_ENDPOINT"]).port == int(ports["minio"])
    assert urlsplit(told["POSTGRES_DSN"]).port == int(ports["postgres"])
    assert told["KAFKA_BOOTSTRAP_SERVERS"] in services()["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_the_environment_holds_the_passwords_that_the_servers_are_given() -> None:
    told, given = environment(), services()
    assert told["S3_ACCESS_KEY"] == given["minio"]["environment"]["MINIO_ROOT_USER"]
    assert told["S3_SECRET_KEY"] == given["minio"]["environment"]["MINIO_ROOT_PASSWORD"]
    dsn, postgres = urlsplit(told["POSTGRES_DSN"]), given["postgres"]["environment"]
    assert (dsn.username, dsn.password) == (postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"])
    assert dsn.path == f"/{postgres['POSTGRES_DB']}"


def test_images_are_pinned_and_answer_for_their_health() -> None:
    for service in services().values():
        assert re.search(r":\d", service["image"])
        assert service["healthcheck"]["test"][0] == "CMD"
    assert re.search(r"ARG MINIO_VERSION=v0\.0\.0-\d{14}-[0-9a-f]{12}\n", (DOCKER / "minio.Dockerfile").read_text())


def writing_to(path: Path) -> list[str]:
    return [sys.executable, "-c", WRITES_DOWN, str(path)]


def test_what_breaks_a_server_mends_it_even_where_the_test_fails(tmp_path: Path) -> None:
    said = tmp_path / "said"
    for control in (CommandControl(writing_to(said)), ComposeControl(writing_to(said))):
        for how in ("kill", "pause"):
            with pytest.raises(RuntimeError), broken(control, "kafka-1", how):
                raise RuntimeError
    assert said.read_text().splitlines() == [
        *("kill kafka-1", "up", "pause kafka-1", "resume kafka-1", "up"),
        *("kill kafka", "up --detach --wait", "pause kafka", "unpause kafka", "up --detach --wait"),
    ]


def test_a_control_that_fails_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="no such server"):
        CommandControl([sys.executable, "-c", "raise SystemExit('no such server')"]).kill("minio")
