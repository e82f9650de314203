"""Shapes of models: counted parameters are the real ones, from a folder as from the published facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.contract import tiny_models

from tracemend.embedded.architectures import PUBLISHED, find_architecture, read_architecture
from tracemend.kit.errors import SetupError

PUBLISHED_PARAMETERS = {
    "DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "DeepSeek-R1-Distill-Llama-8B": 8_030_261_248,
    "Qwen3-8B": 8_190_735_360,
}
"""As the published weights' own metadata count them."""


def test_published_shapes_count_up_to_the_published_parameters() -> None:
    assert {name: shape.num_parameters for name, shape in PUBLISHED.items()} == PUBLISHED_PARAMETERS


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_a_folder_counts_up_to_the_model_in_it(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny_models.build(tmp_path / architecture, architecture)
    shape = read_architecture(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert shape.num_parameters == model.num_parameters()
    linear = {name.rsplit(".", 1)[-1]: tuple(m.weight.shape) for name, m in model.model.layers[0].named_modules()
              if name.endswith("_proj")}  # fmt: skip
    assert shape.linear_shapes() == linear


def test_adapters_count_up_to_what_peft_trains(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tiny_models.build(tmp_path / "llama", "llama")
    for targets in (("q_proj", "v_proj"), ("all-linear",)):
        names = "all-linear" if targets == ("all-linear",) else list(targets)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=4, target_modules=names))
        assert (
            read_architecture(folder).num_lora_parameters(rank=4, targets=targets)
            == model.get_nb_trainable_parameters()[0]
        )


def test_a_published_name_is_known_without_a_folder_and_others_are_not(tmp_path: Path) -> None:
    assert (
        find_architecture("${TRACEMEND_MODELS}/DeepSeek-R1-Distill-Qwen-7B") is PUBLISHED["DeepSeek-R1-Distill-Qwen-7B"]
    )
    assert find_architecture(tmp_path / "another") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_type": "llama", "hidden_size": "wide"}'])
def test_a_config_without_a_shape_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(SetupError, match=r"config\.json"):
        find_architecture(tmp_path)


def test_no_heads_are_no_shape_and_experts_are_counted_as_such(tmp_path: Path) -> None:
    folder = tiny_models.build(tmp_path / "llama", "llama")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    assert read_architecture(folder).num_experts == 0
    path.write_text(json.dumps(config | {"num_local_experts": 8}))
    assert read_architecture(folder).num_experts == 8
    path.write_text(json.dumps(config | {"num_attention_heads": 0, "head_dim": None}))
    with pytest.raises(SetupError, match=r"config\.json"):
        read_architecture(folder)
