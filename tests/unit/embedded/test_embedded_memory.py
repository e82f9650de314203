"""Memory of training, by published shapes: pairs hold two sides and a mask, and no logits of all positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.contract import tiny_models

from tracemend.embedded.memory import MemoryNeed, memory_needs
from tracemend.embedded.runfile import RunFile


def need_of(train: dict[str, Any], *, machine: str = "1x80gb") -> MemoryNeed:
    """The need of training R1-Distill-Qwen-7B so."""
    kind = "pairs" if train.get("algorithm", "sft") in ("intervened_po", "dpo") else "examples"
    document = {
        "name": "small",
        "prompts": [{"source": "numbered", "count": 2}],
        "target": {"model": "/nowhere/DeepSeek-R1-Distill-Qwen-7B", "engine": "vllm"},
        "judge": {"harm": {"name": "last_word"}, "detector": {"name": "rule_cue"}},
        "arms": {"arm": {"correct": {"strategy": "intervene"}, "assemble": {"kind": kind}, "train": train}},
    }
    needs, _ = memory_needs(RunFile.model_validate(document))
    return next(need for need in needs if (need.machine, need.phase) == (machine, "train arm"))


def test_a_pair_is_two_rows_in_activations() -> None:
    pair = need_of({"algorithm": "intervened_po", "batch_size": 1})
    assert pair.parts["activations"] == need_of({"batch_size": 2}).parts["activations"]


@pytest.mark.parametrize("length", [4096, 8192])
def test_logits_of_pairs_come_in_tiles_whatever_the_length(length: int) -> None:
    parts = [need_of({"algorithm": name, "batch_size": 1, "max_length": length}).parts for name in ("sft", "dpo")]
    assert parts[0]["logits"] == 8 * length * 152_064
    assert parts[1]["logits"] == 8 * 4096 * 32_768


def test_a_shared_prefix_costs_a_mask_over_both_sides_unless_it_is_off() -> None:
    options: dict[str, Any] = {"algorithm": "intervened_po", "batch_size": 2, "max_length": 1000}
    assert need_of(options).parts["mask"] == 3 * 2 * 2000**2
    assert "mask" not in need_of(options | {"options": {"shared_prefix": "off"}}).parts
    assert "mask" not in need_of({}).parts


def test_pairs_too_long_for_a_machine_are_told_to_be_shorter() -> None:
    small = need_of({"algorithm": "intervened_po", "batch_size": 1, "max_length": 16_384}, machine="1x24gb")
    assert not small.fits
    assert "arms.arm.train.max_length" in small.advice


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"num_local_experts": 8}, "a mixture of experts"), ({"num_attention_heads": None}, "does not state the shape")],
)
def test_a_model_that_cannot_be_counted_is_a_note_and_no_obstacle(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = tiny_models.build(tmp_path / "model") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    document = {
        "name": "small",
        "prompts": [{"source": "numbered", "count": 2}],
        "target": {"model": str(path.parent), "engine": "vllm"},
        "judge": {"harm": {"name": "last_word"}},
        "arms": {"arm": {"correct": {"strategy": "filter"}}},
    }
    needs, (note,) = memory_needs(RunFile.model_validate(document))
    assert needs == ()
    assert says in note
