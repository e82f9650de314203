"""Model folders: is this an ordinary Hugging Face folder that may be loaded, and which model is it?

Called by every engine that loads weights, and by whoever records which model wrote a trajectory. Only safetensors are
read: a pickle can run code. A folder's identity is a digest of the files that determine what the model writes, and
never of where it lies, so the same folder copied elsewhere is the same model.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    *_TOKENIZER_FILES,
)
_UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_INDEX = "model.safetensors.index.json"

_digests: dict[tuple[str, int, int], str] = {}
"""Digests by (path, size, mtime in ns): weights are read once per process, however many engines are opened."""


def check(folder: Path) -> None:
    """Raise a `SetupError` that says what is missing or unsafe, unless `folder` can be loaded."""
    if not folder.is_dir():
        raise SetupError(f"no model folder at {folder}: give the path of a Hugging Face model folder")
    if not (folder / "config.json").is_file():
        raise SetupError(f"{folder} has no config.json: this is not a Hugging Face model folder")
    _json(folder / "config.json")
    _check_weights(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise SetupError(f"{folder} has no tokenizer ({', '.join(_TOKENIZER_FILES)}): save the model's tokenizer there")


def identity_of(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of weights, configuration, tokenizer and chat template.

    Reads every weight file once per process and (path, size, mtime). Raises `SetupError` as `check` does.
    """
    check(folder)
    names = [name for name in _SIDE_FILES if (folder / name).is_file()]
    names += [path.relative_to(folder).as_posix() for path in folder.glob("*.safetensors")]
    names += [_INDEX] if (folder / _INDEX).is_file() else []
    names += [path.relative_to(folder).as_posix() for path in folder.glob("additional_chat_templates/*.jinja")]
    whole = hashlib.sha256()
    for name in sorted(names):
        whole.update(f"{name}\0{_file_digest(folder / name)}\n".encode())
    return whole.hexdigest()


def _check_weights(folder: Path) -> None:
    index = folder / _INDEX
    if index.is_file():
        shards = set(_json(index).get("weight_map", {}).values())
        missing = sorted(str(shard) for shard in shards if not (folder / str(shard)).is_file())
        if missing:
            raise SetupError(f"{folder} lacks {len(missing)} of {len(shards)} weight shards, first: {missing[0]}")
        return
    if any(folder.glob("*.safetensors")):
        return
    unsafe = sorted(path.name for pattern in _UNSAFE_WEIGHTS for path in folder.glob(pattern))
    if unsafe:
        raise SetupError(
            f"{folder} holds its weights as {unsafe[0]}, a format that can run code when read: "
            "save it again with save_pretrained(), which writes safetensors"
        )
    if (folder / "adapter_config.json").is_file():
        raise SetupError(f"{folder} is an adapter: merge it into its base model first (tracemend export --merge)")
    raise SetupError(f"{folder} has no weights (*.safetensors)")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise SetupError(f"{path} must hold a JSON object")
    return value


def _file_digest(path: Path) -> str:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]
