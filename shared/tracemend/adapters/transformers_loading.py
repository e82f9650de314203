"""Loading a model folder with transformers for inference, and how much key-value cache it may fill.

Called by the transformers worker, in its thread. Nothing is fetched, no code in a folder is run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError

_CACHE_SHARE = 0.5  # of the memory that is free after loading; activations and logits need the rest


def load_model(folder: Path, *, device: str, dtype: str) -> Any:
    """The causal language model in `folder`, ready on its device. Raises `SetupError`."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar per weight file would run through our own progress display
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise SetupError(f"there is no device '{device}' here: torch sees {torch.cuda.device_count()} CUDA devices")
    number = _dtype(dtype, place)
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        _check(config, folder)
        model = AutoModelForCausalLM.from_pretrained(
            str(folder), config=config, dtype=number, local_files_only=True, trust_remote_code=False,
            use_safetensors=True,
        )  # fmt: skip
        return model.eval().requires_grad_(False).to(place)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(f"the model in {folder} cannot be loaded: {first}") from None


def cache_tokens(model: Any, *, asked: int | None) -> int:
    """Key-value columns (rows times width) that fit into memory beside the model, or the `asked` number."""
    import torch

    if asked is not None:
        return asked
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    column_bytes = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    free_bytes = torch.cuda.mem_get_info(model.device)[0] if model.device.type == "cuda" else available_bytes()
    # A cache that grows or loses rows exists twice for a moment.
    return max(1, int(free_bytes * _CACHE_SHARE / 2 / column_bytes))


def available_bytes(table: Path = Path("/proc/meminfo")) -> int:
    """Memory that a process can still have. Linux counts what its file cache would give back, without which a machine
    that has read large files looks full; elsewhere, what is free outright."""
    if table.exists():
        sizes = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines())
        if "MemAvailable" in sizes:
            return int(sizes["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def model_len(model: Any, *, asked: int | None) -> int:
    """Longest prompt plus response: the configuration's, or less if `asked` for. Raises `SetupError`."""
    stated = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(stated, int) and asked is None:
        raise SetupError("the model's config.json states no max_position_embeddings: set the option max_model_len")
    if isinstance(stated, int) and asked is not None and asked > stated:
        raise SetupError(f"max_model_len {asked} is more than the {stated} positions that the model was made for")
    return int(asked if asked is not None else stated or 0)


def _check(config: Any, folder: Path) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    unknown = kinds - {"full_attention", "sliding_attention", "chunked_attention"}
    if unknown:
        raise SetupError(
            f"{folder} has {', '.join(sorted(unknown))} layers, which this engine lacks: use vllm:{folder}"
        )


def _dtype(name: str, device: Any) -> Any:
    import torch

    if name == "auto":
        return "auto" if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise SetupError(f"unknown dtype '{name}': choose auto, {', '.join(known)}")
    return known[name]
