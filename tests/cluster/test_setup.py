"""What the chart's setup Job does: tables, bucket and topics are there afterwards, and again is no error."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.kafka_topics_for_tests import remove_namespace
from tests.needs import needs_server

from tracemend.adapters.kafka_clients import settings_of
from tracemend.runtime.opening import open_store, open_topic_keeper
from tracemend.runtime.stores import close
from tracemend.topics import of_targets


def set_up(environ: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracemend.programs.setup", *words]
    return subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=200
    )


async def test_what_services_need_is_there_afterwards_and_again_is_no_error(tmp_path: Path) -> None:
    bus = f"kafka:{needs_server('KAFKA_BOOTSTRAP_SERVERS')}?namespace=s{secrets.token_hex(4)}"
    needs_server("S3_ENDPOINT")
    store = f"s3:setup-{secrets.token_hex(4)}"
    environ = {"TRACEMEND_BUS": bus, "TRACEMEND_STORE": store, "TRACEMEND_LEDGER": f"sqlite:{tmp_path}/ledger.db"}
    words = ("--target=one", "--target=two", "--replication=1", "--min-isr=1", "--make-bucket")
    try:
        for _ in range(2):
            ended = set_up(environ, *words)
            assert ended.returncode == 0, ended.stderr
        keeper = open_topic_keeper(bus, replication=1, min_isr=1)
        assert not await keeper.differences(of_targets(["one", "two"]))
        await keeper.aclose()
        opened = open_store(store)
        assert await opened.get(await opened.put(b"there")) == b"there"
        await close(opened)
        assert (tmp_path / "ledger.db").stat().st_size > 0
    finally:
        remove_namespace(settings_of(bus))


def test_what_is_not_set_is_named_and_what_does_not_answer_is_given_up_in_words(tmp_path: Path) -> None:
    environ = {"TRACEMEND_STORE": "s3:b", "TRACEMEND_LEDGER": f"sqlite:{tmp_path}/ledger.db"}
    ended = set_up({**environ, "TRACEMEND_BUS": ""})
    assert ended.returncode == 2
    assert "TRACEMEND_BUS" in ended.stderr
    ended = set_up({**environ, "TRACEMEND_BUS": "kafka:127.0.0.1:1"}, "--wait=0")
    assert ended.returncode == 2
    assert "the topics" in ended.stderr
    assert "Traceback" not in ended.stderr
