"""Model folders: identity follows the content, and what cannot or must not be loaded is said plainly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.contract import tiny_models

from tracemend.adapters.model_folder import check, identity_of
from tracemend.kit.errors import SetupError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model") / "llama", "llama")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def test_a_copy_is_the_same_model_and_another_seed_is_not(original: Path, folder: Path, tmp_path: Path) -> None:
    assert identity_of(folder) == identity_of(original)
    assert identity_of(tiny_models.build(tmp_path / "other", "llama", seed=1)) != identity_of(original)


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_every_file_that_shapes_the_output_shapes_the_identity(folder: Path, name: str) -> None:
    before = identity_of(folder)
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert identity_of(folder) != before


def test_weights_shape_the_identity_and_a_note_beside_them_does_not(folder: Path) -> None:
    before = identity_of(folder)
    (folder / "README.md").write_text("a note")
    assert identity_of(folder) == before
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert identity_of(folder) != before


def test_pickled_weights_are_refused_without_being_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SetupError, match="safetensors"):
        check(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SetupError, match=r"lacks 1 of 2 weight shards, first: model-00001\.safetensors"):
        check(folder)


@pytest.mark.parametrize(
    ("gone", "words"),
    [("config.json", "no config.json"), ("model.safetensors", "no weights"), ("tokenizer.json", "no tokenizer")],
)
def test_what_is_missing_is_named(folder: Path, gone: str, words: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(SetupError, match=words):
        check(folder)


def test_broken_json_and_adapters_and_no_folder_are_told_apart(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no model folder"):
        check(tmp_path / "nowhere")
    (folder / "config.json").write_text("{")
    with pytest.raises(SetupError, match="cannot be read as JSON"):
        check(folder)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").unlink()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(SetupError, match="merge it"):
        check(folder)
