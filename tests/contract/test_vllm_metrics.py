"""What vLLM counts of an engine of ours is in the service's own scrape."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.charts.foreign_metrics import FOREIGN
from tests.contract import tiny_models

SERVE = """
import asyncio, json, sys
from tracemend.kit.ports import ModelRequest
from tracemend.records import Sampling
from tracemend.runtime.models import open_model
from tracemend.runtime.telemetry import ServiceTelemetry

async def main():
    telemetry = ServiceTelemetry()
    before = telemetry.exposition()[0].decode()
    model = open_model("vllm:" + sys.argv[1], options={"driver": "process"})
    await model.complete(ModelRequest(prompt_tokens=(1, 2, 3), sampling=Sampling(max_new_tokens=4)))
    await asyncio.sleep(1)
    after = telemetry.exposition()[0].decode()
    await model.aclose()
    print(json.dumps([before, after]))

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.slow
def test_an_engine_s_queue_and_cache_are_scraped_under_the_names_that_dashboards_use(tmp_path: Path) -> None:
    folder = tiny_models.build(tmp_path / "qwen2", "qwen2")
    script = tmp_path / "serve.py"
    script.write_text(SERVE, encoding="utf-8")
    command = [sys.executable, str(script), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    before, after = json.loads(ended.stdout.splitlines()[-1])
    assert "vllm:" not in before
    for name in FOREIGN["https://docs.vllm.ai/en/stable/usage/metrics"]:
        assert f"{name}{{" in after or f"{name}_bucket{{" in after, name
    assert 'model_name="qwen2"' in after, "the folder's name, and not where it lies"
    assert after.count("# TYPE process_cpu_seconds_total") == 1, "the default registry's own are ours already"
