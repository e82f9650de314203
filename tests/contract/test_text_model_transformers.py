"""The `TextModel` contract over the transformers engine, for each real architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract import text_model_suite as suite
from tests.contract import tiny_models

from tracemend.kit.ports import Capabilities, TextModel
from tracemend.runtime.models import open_model

CHECKS = suite.checks_for(
    Capabilities(token_ids=True, prefix_cache=True, seeds=True, logprobs=True, max_model_len=tiny_models.CONTEXT)
)


@pytest.fixture(scope="module", params=tiny_models.ARCHITECTURES)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> suite.Subject:
    folder = tiny_models.build(tmp_path_factory.mktemp("model") / request.param, request.param)
    model = open_engine(folder)
    assert model.capabilities.token_ids
    assert model.capabilities.seeds
    assert model.capabilities.prefix_cache
    return suite.Subject(model=model, reopen=lambda: open_engine(folder))


def open_engine(folder: Path) -> TextModel:
    return open_model(f"transformers:{folder}", options={"num_threads": 1, "max_batch": 16})


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_transformers_engine(check: suite.Check, subject: suite.Subject) -> None:
    await check(subject)
