"""Checkpoints that can be trusted: complete, digest-verified, of this very training.

The training loop writes a checkpoint folder; `seal` then records the digest of each of its files in a marker that is
written last. A kill at any moment leaves a sealed checkpoint, or a folder without a valid seal, which is never resumed
from. "Latest by listing" is not a criterion here (prime-rl #1712, #1084).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

_log = logging.getLogger(__name__)

SEAL = "STABLE.json"
_PREFIX = "checkpoint-"


def seal(checkpoint: Path, *, fingerprint: str, seconds: float = 0.0) -> None:
    """Mark `checkpoint` as complete: every file flushed to the disk, then the marker with their digests.

    Args:
        checkpoint: A folder named `checkpoint-<step>` that nobody writes to any more.
        fingerprint: What the training is a function of; another training must not resume from it.
        seconds: What the training has taken to get here.
    """
    (checkpoint / SEAL).unlink(missing_ok=True)
    files = {path.relative_to(checkpoint).as_posix(): _flushed_digest(path) for path in _files(checkpoint)}
    temporary = checkpoint / f".{SEAL}.tmp"
    with temporary.open("w", encoding="utf-8") as stream:
        sealed = {"fingerprint": fingerprint, "step": step_of(checkpoint), "seconds": seconds, "files": files}
        json.dump(sealed, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(checkpoint / SEAL)
    sync_folder(checkpoint)
    sync_folder(checkpoint.parent)


def newest_sealed(folder: Path, *, fingerprint: str) -> Path | None:
    """The checkpoint to resume from: the furthest one of this training whose every file has its sealed digest."""
    for checkpoint in sorted(_checkpoints(folder), key=step_of, reverse=True):
        fault = fault_of(checkpoint, fingerprint=fingerprint)
        if fault is None:
            return checkpoint
        _log.warning("checkpoint %s is not used: %s", checkpoint.name, fault)
    return None


def seconds_of(checkpoint: Path) -> float:
    """What the training had taken when `checkpoint`, which is sealed, was written; 0 where its seal does not say."""
    return float(json.loads((checkpoint / SEAL).read_text(encoding="utf-8")).get("seconds", 0.0))


def sealed_folders(folder: Path) -> list[Path]:
    """Checkpoints in `folder` that have a seal, the furthest first; their files are not looked at."""
    return sorted((path for path in _checkpoints(folder) if (path / SEAL).is_file()), key=step_of, reverse=True)


def fault_of(checkpoint: Path, *, fingerprint: str) -> str | None:
    """Why a checkpoint cannot be resumed from, or None."""
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
        files: dict[str, str] = sealed["files"]
        if sealed["fingerprint"] != fingerprint:
            return "it belongs to a training with other settings, data or base model"
    except FileNotFoundError:
        return "it was never finished"
    except (ValueError, KeyError, TypeError):
        return f"its {SEAL} cannot be read"
    for name, digest in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if digest_of_file(path) != digest:
            return f"{name} does not match its digest"
    return None


def prune(folder: Path, *, newest: Path, keep: int) -> None:
    """After `newest` was sealed, remove all checkpoints before it but the last `keep` - 1. Further ones are being
    written."""
    before = [path for path in sorted(_checkpoints(folder), key=step_of) if step_of(path) < step_of(newest)]
    for checkpoint in before[: max(0, len(before) - (keep - 1))]:
        shutil.rmtree(checkpoint)


def drop_beyond(folder: Path, *, step: int) -> None:
    """Before a training goes on after `step`, remove what lies further: leftovers of one that is not resumed."""
    for checkpoint in _checkpoints(folder):
        if step_of(checkpoint) > step:
            shutil.rmtree(checkpoint)


def step_of(checkpoint: Path) -> int:
    """Optimiser steps done when the checkpoint was written."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def digest_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the folder's entries (new names, renames) durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flushed_digest(path: Path) -> str:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit()]
