"""A model folder's tokenizer, loaded from local files, and the tokens that end its responses.

`ChatTemplate.load` is the only caller. Nothing is fetched and no code of the folder is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTokenizer:
    """A transformers tokenizer, what to call it in messages, and the end ids of its generation settings."""

    tokenizer: Any
    name: str
    generation_end_ids: tuple[int, ...]


def load_tokenizer(folder_or_tokenizer: str | Path | Any) -> LoadedTokenizer:
    """Load from a folder, or take a loaded tokenizer; `SetupError` where it cannot serve as a chat tokenizer."""
    if isinstance(folder_or_tokenizer, (str, Path)):
        origin, tokenizer = str(folder_or_tokenizer), _from_folder(Path(folder_or_tokenizer))
    else:
        origin, tokenizer = getattr(folder_or_tokenizer, "name_or_path", ""), folder_or_tokenizer
    folder = Path(origin) if origin and Path(origin).is_dir() else None
    name = origin or "the tokenizer"
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise SetupError(
            f"{name} has no tokenizer of the tokenizers library; convert it: load it with AutoTokenizer, then "
            "save_pretrained must write a tokenizer.json"
        )
    if not tokenizer.chat_template:
        raise SetupError(f"{name} has no chat template; add a chat_template.jinja file to the model folder")
    return LoadedTokenizer(
        tokenizer=tokenizer, name=name, generation_end_ids=_generation_end_ids(folder) if folder else ()
    )


def _from_folder(folder: Path) -> Any:
    if not folder.is_dir():
        raise SetupError(f"{folder} is not a folder; give the path of a model folder with its tokenizer files")
    tokenizer = open_tokenizer(folder)
    _check_same_model(folder, tokenizer)
    return tokenizer


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, from local files alone; `SetupError` where its files make none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")
        raise SetupError(
            f"the tokenizer in {folder} cannot be loaded ({type(error).__name__}: {said}); "
            "copy the tokenizer's files of the model there anew"
        ) from error


def _check_same_model(folder: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that transformers rebuilt as another kind than the folder holds.

    For some values of `model_type` the stored tokenizer class is ignored: a word-level vocabulary in a `qwen2` folder
    is loaded as a byte-pair one, and every text then is read as other words, without an error.
    """
    path = folder / "tokenizer.json"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not path.is_file():
        return
    stored = json.loads(path.read_text(encoding="utf-8"))["model"].get("type")
    loaded = type(backend.model).__name__
    if stored is not None and stored != loaded:
        raise SetupError(
            f"{path} holds a {stored} tokenizer, but transformers loads it as {loaded} because of model_type in "
            "config.json; save the model under an architecture whose tokenizer class is not fixed, llama for example"
        )


def _generation_end_ids(folder: Path) -> tuple[int, ...]:
    path = folder / "generation_config.json"
    if not path.is_file():
        return ()
    try:
        ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except ValueError as error:
        raise SetupError(f"{path} is not valid JSON: {error}") from error
    if ends is None:
        return ()
    return tuple(ends) if isinstance(ends, list) else (int(ends),)


def end_tokens(
    tokenizer: Any, *, turn_end: Sequence[str], control_ids: Mapping[str, int], extra: Sequence[int], name: str
) -> tuple[int, frozenset[int]]:
    """(the end token to teach, every token that ends a response).

    Taught is what the template writes after an assistant's words (`turn_end`, its control tokens), since a chat model
    ends its turn by it even where the tokenizer's own end-of-sequence token is another; else that token.
    """
    taught = control_ids[turn_end[0]] if turn_end else tokenizer.eos_token_id
    if taught is None:
        raise SetupError(
            f"{name} has no end token: its chat template writes none after an assistant turn and its tokenizer names "
            "no eos_token; set eos_token in tokenizer_config.json"
        )
    others = (tokenizer.eos_token_id, *extra)
    return taught, frozenset({taught, *(token for token in others if token is not None)})
