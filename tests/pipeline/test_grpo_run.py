"""A run file with a GRPO arm goes through to a checkpoint, rewarded by the run's own judge."""

from __future__ import annotations

import pytest
from tests.pipeline.tiny_runs import ROWS, arm, build_model, document, run_tiny

pytestmark = pytest.mark.slow


def test_a_grpo_arm_is_rewarded_by_the_runs_judge(tmp_path):
    options = {"group": 4, "max_new_tokens": 8}
    written = document(build_model(tmp_path / "model"), arms={"grpo": arm(algorithm="grpo", options=options)})
    finished = run_tiny(written, tmp_path / "out")
    checkpoint = finished.checkpoints["grpo"]
    assert checkpoint.step == ROWS, "a step of four responses is one prompt"
    assert 0 <= checkpoint.metrics["first/reward"] <= 1
    assert (tmp_path / "out" / checkpoint.path / "config.json").is_file()
