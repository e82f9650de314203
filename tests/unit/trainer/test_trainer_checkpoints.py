"""Only complete, unchanged checkpoints of the same training are resumed from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracemend.trainer.checkpoints import SEAL, drop_beyond, newest_sealed, prune, seal


def write_checkpoint(folder: Path, step: int, *, fingerprint: str = "this", sealed: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "parts").mkdir(parents=True)
    (checkpoint / "model.bin").write_bytes(b"weights" * step)
    (checkpoint / "parts" / "optimiser.bin").write_bytes(b"moments" * step)
    if sealed:
        seal(checkpoint, fingerprint=fingerprint)
    return checkpoint


@pytest.fixture
def folder(tmp_path):
    for step in (9, 10, 100):  # by number, not by name
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    return tmp_path


def newest(folder):
    return newest_sealed(folder, fingerprint="this")


def test_the_furthest_sealed_checkpoint_is_found(folder):
    assert newest(folder).name == "checkpoint-100"
    write_checkpoint(folder, 101, sealed=False)
    assert newest(folder).name == "checkpoint-100"


def test_no_folder_and_no_checkpoint_mean_from_the_start(tmp_path):
    assert newest(tmp_path / "absent") is None
    assert newest(tmp_path) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda checkpoint: (checkpoint / "model.bin").write_bytes(b"weights" * 99 + b"weight!"),
        lambda checkpoint: (checkpoint / "model.bin").write_bytes(b"weights"),
        lambda checkpoint: (checkpoint / "parts" / "optimiser.bin").unlink(),
        lambda checkpoint: (checkpoint / SEAL).unlink(),
        lambda checkpoint: (checkpoint / SEAL).write_text("{"),
        lambda checkpoint: (checkpoint / SEAL).write_text("[]"),
        lambda checkpoint: (checkpoint / SEAL).write_text(json.dumps({"fingerprint": "this"})),
        lambda checkpoint: seal(checkpoint, fingerprint="another"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_skipped_with_a_warning(folder, damage, caplog):
    damage(folder / "checkpoint-100")
    assert newest(folder).name == "checkpoint-10"
    assert "checkpoint-100 is not used" in caplog.text


def test_sealing_again_replaces_the_seal(folder):
    checkpoint = folder / "checkpoint-100"
    (checkpoint / "model.bin").write_bytes(b"rewritten")
    seal(checkpoint, fingerprint="this")
    assert newest(folder) == checkpoint


@pytest.mark.parametrize(("keep", "left"), [(1, {"10", "100"}), (2, {"9", "10", "100"}), (4, {"9", "10", "100"})])
def test_pruning_keeps_the_newest_and_what_is_being_written_beyond_it(folder, keep, left):
    prune(folder, newest=folder / "checkpoint-10", keep=keep)
    assert {path.name for path in folder.iterdir()} == {f"checkpoint-{step}" for step in left} | {"checkpoint-best"}


def test_going_on_drops_what_lies_beyond(folder):
    drop_beyond(folder, step=10)
    assert {path.name for path in folder.iterdir()} == {"checkpoint-9", "checkpoint-10", "checkpoint-best"}
