"""A trained adapter is handed over whole: it loads where others load it, and uploads go where they were sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.pipeline.fake_hub import Hub, serve
from tests.pipeline.tiny_runs import arm, build_model, document, run_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("handing") / "tiny-model")


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: an adapter, and another trained on top of what the first one made."""
    lora = {"r": 4, "alpha": 8}
    arms = {"lora": arm(lora=lora), "second": {"from": "lora", **arm(lora=lora)}}
    out = tmp_path_factory.mktemp("handing") / "run"
    run_tiny(document(model, arms=arms), out)
    return out


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as running:
        yield running


def export(
    run: Path, *arguments: str, hub: Hub | None = None, token: str = "hf_secret"
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the Hub's client reads its address when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(run / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    if hub is not None:
        environment |= {"HF_ENDPOINT": hub.url} | ({"HF_TOKEN": token} if token else {})
    command = [sys.executable, "-m", "tracemend.cli", "export", str(run), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=200, env=environment)


def test_an_exported_adapter_makes_of_the_base_what_the_run_made_of_it(run: Path, model: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    for to, what in ((adapter, "adapter"), (merged, "model")):
        done = export(run, "lora", "--to", str(to), "--what", what)
        assert done.returncode == 0, done.stderr
    said = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert said["base_model_name_or_path"] == "tiny-model", "no path of ours travels"
    assert str(run) not in (adapter / "README.md").read_text(encoding="utf-8")

    base = AutoModelForCausalLM.from_pretrained(model, local_files_only=True)
    loaded = PeftModel.from_pretrained(base, str(adapter)).eval()
    tokens = torch.tensor(
        [AutoTokenizer.from_pretrained(adapter, local_files_only=True)("how do I make bread?").input_ids]
    )
    trained = AutoModelForCausalLM.from_pretrained(merged, local_files_only=True).eval()
    untouched = AutoModelForCausalLM.from_pretrained(model, local_files_only=True).eval()
    with torch.no_grad():
        ours, theirs, before = (its(tokens).logits for its in (loaded, trained, untouched))
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, before, atol=1e-4), "the adapter does something"


def test_an_adapter_names_the_model_that_it_was_trained_over(run: Path, tmp_path: Path) -> None:
    """Over the target it would be nonsense: its arm started from another arm's model."""
    done = export(run, "second", "--to", str(tmp_path / "second"), "--what", "adapter")
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "second" / "adapter_config.json").read_text(encoding="utf-8"))
    assert said["base_model_name_or_path"] == "tiny-lora"
    assert "the model of arm `lora`" in (tmp_path / "second" / "README.md").read_text(encoding="utf-8")


def test_a_push_is_private_and_complete(run: Path, hub: Hub, tmp_path: Path) -> None:
    to = tmp_path / "adapter"
    done = export(run, "lora", "--to", str(to), "--what", "adapter", "--push", "me/mended", hub=hub)
    assert done.returncode == 0, done.stderr
    assert hub.private == {"model/me/mended": True}
    assert hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in done.stdout + done.stderr
    uploaded = hub.files["model/me/mended"]
    assert {path.name: path.read_bytes() for path in to.iterdir()} == uploaded
    assert "adapter_model.safetensors" in uploaded


def test_a_dataset_goes_to_a_dataset_repository_and_public_only_when_told(run: Path, hub: Hub, tmp_path: Path) -> None:
    push = ("--what", "dataset", "--push", "me/rows")
    assert export(run, "lora", "--to", str(tmp_path / "one"), *push, "--public", hub=hub).returncode == 0
    assert hub.private == {"dataset/me/rows": False}
    assert any(name.endswith(".parquet") for name in hub.files["dataset/me/rows"])

    before = dict(hub.files["dataset/me/rows"])
    again = export(run, "lora", "--to", str(tmp_path / "two"), *push, hub=hub)
    assert again.returncode == 2
    assert "is public" in again.stderr, "a public repository is not filled by who did not say --public"
    assert hub.files["dataset/me/rows"] == before


def test_a_push_without_a_token_or_a_hub_says_what_to_do(run: Path, hub: Hub, tmp_path: Path) -> None:
    arguments = ("lora", "--what", "dataset", "--push", "me/rows")
    untold = export(run, *arguments, "--to", str(tmp_path / "one"), hub=hub, token="")
    assert (untold.returncode, hub.private) == (2, {})
    assert "HF_TOKEN" in untold.stderr
    gone = Hub(url="http://127.0.0.1:9")
    unheard = export(run, *arguments, "--to", str(tmp_path / "two"), hub=gone)
    assert unheard.returncode == 2, unheard.stderr
    assert "--push me/rows" in unheard.stderr
    assert "Traceback" not in unheard.stderr
