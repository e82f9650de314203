"""The end of a training: an ordinary model folder that every engine opens.

`training` calls it on one process. Weights are the trained ones, adapters merged; every other file is the base model's
own, byte for byte, because a tokenizer or a template that is saved again may come out as another one. The folder
appears under its name at once and whole.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.trainer.checkpoints import sync_folder

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth")
_NOT_COPIED = (*_WEIGHTS, "README*", "*.md", ".*")


def write_model(saved: Path, *, base: Path, out: Path) -> None:
    """Turn what the trainer saved into the model folder `out`.

    Args:
        saved: Folder with full weights, or with an adapter.
        base: The model that training started from; not changed.
        out: The result; replaced if it is there.
    """
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _merged(saved, base=base).save_pretrained(temporary)
    _check_shapes(temporary, base=base)
    for path in sorted(base.iterdir()):
        if path.is_file() and not any(path.match(pattern) for pattern in _NOT_COPIED):
            shutil.copyfile(path, temporary / path.name)
    for path in temporary.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)
    sync_folder(out.parent)


def _merged(saved: Path, *, base: Path) -> Any:
    """The trained model in the precision that the base is kept in."""
    from transformers import AutoModelForCausalLM
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    # While ZeRO-3 is on, transformers loads every model in partitions, which would be saved as empty tensors.
    unset_hf_deepspeed_config()

    if not (saved / "adapter_config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(saved, dtype=_dtype_of(base), local_files_only=True)
    from peft import PeftModel

    # Merged in full precision: the sum of weight and adapter is rounded once.
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32", local_files_only=True)
    merged = PeftModel.from_pretrained(model, str(saved)).merge_and_unload()
    return merged.to(_dtype_of(base))


def _dtype_of(base: Path) -> Any:
    import torch
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base, local_files_only=True).dtype or torch.float32


def _check_shapes(folder: Path, *, base: Path) -> None:
    """A result whose tensors are not those of the base would load as something else, or as noise."""
    ours, theirs = _shapes(folder), _shapes(base)
    differing = sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
    tied = json.loads((base / "config.json").read_text(encoding="utf-8")).get("tie_word_embeddings", True)
    # Tied weights are written by some versions and left out by others.
    lost = {name for name in theirs.keys() - ours.keys() if not (tied and "lm_head" in name)}
    if differing or lost:
        first = [*differing, *sorted(lost)][0]
        raise SetupError(
            f"the trained weights in {folder} are not the base's: {first} has shape {ours.get(first)} and had "
            f"{theirs[first]}; the model's code may rename weights on saving, which cannot be exported"
        )


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return shapes
