"""Doing a phase again: how often each was asked for, kept beside the run so that a resumed command does not forget.

`pipeline` applies the counts to the run file before it resolves the plan. A revision enters the identities of its
section (how the target samples, who judges, how texts are asked for), so the work keys of that phase and of all that
follows from it are new, while what comes before it is found again: judging anew never samples anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tracemend.embedded.runfile import ArmSettings, RunFile
from tracemend.embedded.whole_files import replace_text
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean

PHASES = ("sample", "judge", "correct")


def check_phase(phase: str) -> str:
    """`phase`; a `SetupError` that lists the known ones if it is none."""
    if phase not in PHASES:
        raise SetupError(f"--from {phase}: no such phase{did_you_mean(phase, list(PHASES))}")
    return phase


def read_revisions(folder: Path) -> dict[str, int]:
    """How often each phase of the run in `folder` was asked for again."""
    path = _path(folder)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {phase: int(stored.get(phase, 0)) for phase in PHASES}
    except FileNotFoundError:
        return dict.fromkeys(PHASES, 0)
    except (ValueError, TypeError, AttributeError):
        raise SetupError(f"{path} is damaged; restore it, or remove it to go back to the first revision") from None


def ask_again(folder: Path, phase: str) -> None:
    """Count one more request for `phase`; whoever opens the run from now on does it anew."""
    revisions = read_revisions(folder)
    revisions[check_phase(phase)] += 1
    replace_text(_path(folder), json.dumps(revisions))


def revised(run: RunFile, revisions: Mapping[str, int]) -> RunFile:
    """`run` with the counts added to its sections' own revisions."""
    target = run.target.model_copy(update={"revision": run.target.revision + revisions["sample"]})
    judge = run.judge.model_copy(update={"revision": run.judge.revision + revisions["judge"]})
    arms = {name: _arm(arm, revisions["correct"]) for name, arm in run.arms.items()}
    return run.model_copy(update={"target": target, "judge": judge, "arms": arms})


def _arm(arm: ArmSettings, more: int) -> ArmSettings:
    if arm.correct is None:
        return arm
    return arm.model_copy(update={"correct": arm.correct.model_copy(update={"revision": arm.correct.revision + more})})


def _path(folder: Path) -> Path:
    return folder / "state" / "revisions.json"
