"""`tracemend top`, and the metrics of dashboards and rules, against the six services at work."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import urllib.request
from pathlib import Path

import pytest
from tests.charts.test_charts_monitoring_dashboards import expressions
from tests.cluster.spine import drop_schema
from tests.cluster.test_local_cluster import (
    client_environment,
    free_ports,
    local_cluster,
    slow_run,
    told,
    tracemend,
    wait_until_ready,
)
from tests.contract.ledgers import postgresql_url
from tests.contract.s3_buckets import new_bucket
from tests.needs import needs_server

QUEUES = ("corrector", "generator-null", "judge", "recorder", "teacher")
SERVICES = ("corrector", "evaluator", "generator", "ingestion", "judge", "trainer")
MOVED = (
    "tracemend_uploaded_rows_total", "tracemend_items_total", "tracemend_outcomes_total", "tracemend_verdicts_total",
    "tracemend_backlog_items", "tracemend_backlog_seconds", "tracemend_group_members", "tracemend_lag_seconds",
    "tracemend_commit_gap_items", "tracemend_queue_age_seconds", "tracemend_message_age_seconds_bucket",
    "tracemend_jobs_total", "tracemend_jobs_running", "tracemend_job_silence_seconds", "tracemend_engine_starts_total",
    "tracemend_store_op_seconds_count", "tracemend_ledger_op_seconds_bucket", "tracemend_rpc_server_seconds_bucket",
)  # fmt: skip
"""Those of the dashboards that any run moves; they must have samples and not their names alone."""


@pytest.mark.slow
async def test_top_shows_a_run_at_work_and_every_metric_of_the_dashboards_is_scraped(tmp_path: Path) -> None:
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
            seen = told("top", "--once", "--json", env=environment)
            assert sorted({queue["group"] for queue in seen["queues"]}) == sorted(QUEUES)
            assert [service["name"] for service in seen["services"]] == sorted(SERVICES)
            assert all(service["num_ready"] == 1 for service in seen["services"])
            assert [each["run"] for each in seen["runs"]] == [run]
            assert seen["troubles"] == []
            shown = tracemend("top", "--once", env=environment)
            assert "generator-null" in shown.stdout
            assert tracemend("watch", run, env=environment).returncode == 0
            await asyncio.sleep(16)  # backlogs are measured every 15 s
            scrapes = [scraped(url) for url in environment["TRACEMEND_METRICS"].split()]
            os.killpg(script.pid, signal.SIGTERM)
            script.communicate(timeout=90)
    drop_schema(ledger)
    names = {name for scrape in scrapes for name in re.findall(r"^# TYPE (\S+)", scrape, re.MULTILINE)}
    names |= {name for scrape in scrapes for name in re.findall(r"^(\w+)[ {]", scrape, re.MULTILINE)}
    base = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    used = {name for expr in expressions().values() for name in re.findall(r"\btracemend_\w+", expr)}
    assert {name for name in used if re.sub(r"_(bucket|count|sum)$", "", name) not in base} == set()
    sampled = {name for scrape in scrapes for name in re.findall(r"^(\w+)\{", scrape, re.MULTILINE)}
    plain = {name for scrape in scrapes for name in re.findall(r"^(\w+) ", scrape, re.MULTILINE)}
    assert set(MOVED) - sampled - plain == set()


def scraped(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())
