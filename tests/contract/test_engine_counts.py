"""What is accounted is what the engine computed: its own counters and ours agree within 2 %."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.contract import text_model_suite as suite
from tests.contract import tiny_models

from tracemend.runtime.models import open_model
from tracemend.runtime.telemetry import ServiceTelemetry
from tracemend.runtime.telemetry_ports import measured_model

pytestmark = pytest.mark.slow


@contextmanager
def counted_positions() -> Iterator[list[int]]:
    """Positions that any model of this process reads while the block runs: one entry per forward pass."""
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    passes: list[int] = []

    def look(module: Any, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Embedding):
            passes.append(inputs[0].numel())

    handle = register_module_forward_pre_hook(look)
    try:
        yield passes
    finally:
        handle.remove()


def accounted(telemetry: ServiceTelemetry) -> dict[str, float]:
    """Tokens by kind."""
    families = text_string_to_metric_families(telemetry.exposition()[0].decode())
    samples = (sample for family in families for sample in family.samples)
    return {s.labels["kind"]: s.value for s in samples if s.name == "tracemend_tokens_total"}


async def test_transformers_computes_the_tokens_that_are_accounted(tmp_path: Path) -> None:
    telemetry = ServiceTelemetry()
    engine = open_model(f"transformers:{tiny_models.build(tmp_path / 'qwen2', 'qwen2')}", options={"num_threads": 1})
    model = measured_model(engine, telemetry, name="target")
    with counted_positions() as passes:
        for index in (0, 1, 2, 3, 0, 1):  # one after the other, as padding would be counted; some begin alike
            await model.complete(suite.ask(index))
    await model.aclose()
    tokens = accounted(telemetry)
    never_read = 6  # the last token of each response
    assert tokens["new"] > 50
    assert tokens["cached"] > 0
    assert tokens["prompt"] + tokens["new"] - never_read == pytest.approx(sum(passes), rel=0.02)


async def test_transformers_batches_account_each_response_once(tmp_path: Path) -> None:
    telemetry = ServiceTelemetry()
    engine = open_model(f"transformers:{tiny_models.build(tmp_path / 'llama')}", options={"num_threads": 1})
    model = measured_model(engine, telemetry, name="target")
    done = await asyncio.gather(*(model.complete(suite.ask(index)) for index in range(12)))
    await model.aclose()
    assert accounted(telemetry)["new"] == sum(len(completion.token_ids) for completion in done)
