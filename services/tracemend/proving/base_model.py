"""The unaligned base model as an ordinary Hugging Face folder: trained on first use, then taken from the cache.

The demo, the fidelity tests and the benchmarks call `ensure_base`. A folder is named by the digest of everything that
determines it, appears whole or not at all, and is checked before it is handed out. Two processes that want the same
folder at once train it once; one that is killed leaves nothing that another would take for a model.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemend.kit.ids import digest_of
from tracemend.proving.corpus import CorpusConfig, documents
from tracemend.proving.grammar import grammar_digest
from tracemend.proving.process import ProcessConfig
from tracemend.proving.tokenizer import CHAT_TEMPLATE, build_tokenizer, token_ids
from tracemend.proving.training import Progress, ShapeConfig, TrainingConfig, train
from tracemend.proving.world import WorldConfig, build_world

_CODE_VERSION = 1
"""Raise it when a change of code changes the model that the same configuration gives."""

_PROVENANCE = "proving_ground.json"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig:
    """Everything that determines a base model."""

    world: WorldConfig = field(default_factory=WorldConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def digest(self) -> str:
        """Identity of the configuration: numbers, words, template and code version."""
        return digest_of([self, self.world.digest(), grammar_digest(), CHAT_TEMPLATE, _CODE_VERSION])


def ensure_base(*, cache: Path, seed: int = 0, num_threads: int = 2, progress: Progress | None = None) -> Path:
    """The folder of the base model of `seed`: the same world, another corpus and another initialisation.

    Trains it if `cache` has no sound one: about two minutes on two cores. `progress` is called with step, number of
    steps and loss.
    """
    config = BaseConfig(corpus=CorpusConfig(seed=seed), training=TrainingConfig(seed=seed))
    return ensure_model(config, cache=cache, num_threads=num_threads, progress=progress)


def ensure_model(config: BaseConfig, *, cache: Path, num_threads: int = 2, progress: Progress | None = None) -> Path:
    """The folder of the model that `config` determines, trained on first use."""
    folder = cache / f"proving-{config.digest()[:16]}"
    if is_sound(folder):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if is_sound(folder):
            return folder
        draft = folder.with_suffix(".draft")
        # Whoever holds the lock owns both names: what lies there was left by a killed process or has been damaged.
        for leftover in (draft, folder):
            shutil.rmtree(leftover, ignore_errors=True)
        _build(config, draft, num_threads=num_threads, progress=progress)
        draft.rename(folder)
        _sync(cache)
    return folder


def is_sound(folder: Path) -> bool:
    """Whether `folder` holds a complete model whose files are still the ones that were written."""
    try:
        files = json.loads((folder / _PROVENANCE).read_text(encoding="utf-8"))["files"]
        return all(_digest(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _build(config: BaseConfig, folder: Path, *, num_threads: int, progress: Progress | None) -> None:
    """Train and write the folder, provenance last."""
    started_s, cpu_started_s = time.monotonic(), time.process_time()
    world = build_world(config.world)
    corpus = tuple(documents(world, config.process, config.corpus))
    ids = token_ids(world)
    model, loss = train(
        corpus, ids, shape=config.shape, config=config.training, num_threads=num_threads, progress=progress
    )
    folder.mkdir()
    with _no_progress_bars():
        model.save_pretrained(folder)
    build_tokenizer(world).save_pretrained(folder)
    provenance: dict[str, Any] = {
        "synthetic": "a model of an invented world; evidence about the method's code, not about real models",
        "config": config.digest(),
        "corpus": hashlib.sha256("\n".join(corpus).encode()).hexdigest(),
        "num_tokens": sum(len(document.split()) for document in corpus),
        "final_loss": loss,
        "seconds": round(time.monotonic() - started_s, 1),
        "cpu_seconds": round(time.process_time() - cpu_started_s, 1),
        "files": {path.name: _digest(path) for path in sorted(folder.iterdir())},
    }
    (folder / _PROVENANCE).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the system releases it when the process ends, however it ends."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """A bar for one shard of a megabyte would break into the caller's own display."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
