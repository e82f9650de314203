"""Jobs: opening a launcher, naming a trained model, and running a job's function as a process of its own.

Embedded mode and services open launchers here; the job modules of the trainer and evaluator call `main`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from tracemend.adapters.crews import Crew as Crew
from tracemend.adapters.launchers import Preempted as Preempted
from tracemend.adapters.launchers import follow as follow
from tracemend.adapters.launchers import newest_attempt
from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.kit.ports import Launcher
from tracemend.kit.registry import did_you_mean
from tracemend.records import Checkpoint

Report = Callable[[str, int, int, float], None]
Progress = Callable[[int, int, float], None]

PREEMPTED = 75
"""Exit code of a job that was told to stop and goes on when it is launched again (EX_TEMPFAIL of sysexits.h)."""


class JobFunction(Protocol):
    """What a job's module is run by: its function `run`."""

    def __call__(self, arguments: Mapping[str, Any], *, folder: Path, progress: Progress) -> Checkpoint: ...


def open_launcher(name: str, *, report: Report | None = None, crew: Crew | None = None) -> Launcher:
    """`inline` or `subprocess`; `report` gets (job name, step, num_steps, loss). `crew` are the nodes that share the
    processes, where this is not the only one."""
    from tracemend.adapters.launchers import InlineLauncher, SubprocessLauncher

    if name == "inline":
        assert crew is None, "several processes are not for this one"
        return InlineLauncher(report=report)
    if name == "subprocess":
        return SubprocessLauncher(report=report, crew=crew)
    raise SetupError(f"unknown launcher '{name}'{did_you_mean(name, ['inline', 'subprocess'])}")


def identity_of_model(folder: Path) -> str:
    """Identity of the model in `folder`: a digest of all files that determine what it writes."""
    from tracemend.adapters.model_folder import identity_of

    return identity_of(folder)


def main(run: JobFunction) -> int:
    """The whole of a job process: read the job, run it, leave the result or the error beside it.

    Returns:
        The exit code: 0 done, 2 for an error that the job raised on purpose, `PREEMPTED` if it was told to stop. Other
        errors end in a traceback. An attempt that is no longer the newest publishes nothing and says so on purpose.
    """
    request = Path(sys.argv[1])
    job = json.loads(request.read_text(encoding="utf-8"))
    result = request.with_suffix(".result.json")
    _end_with_parent()

    def refuse_if_superseded() -> None:
        if _is_superseded(request.parent, job.get("attempt")):
            raise Retry(f"attempt {job['attempt']} was superseded by a newer one")

    def progress(step: int, num_steps: int, loss: float) -> None:
        refuse_if_superseded()
        print(json.dumps({"step": step, "num_steps": num_steps, "loss": loss}), flush=True)

    try:
        checkpoint = run(job["arguments"], folder=Path(job["folder"]), progress=progress)
        refuse_if_superseded()
    except (SetupError, Retry, Reject) as error:
        reason = getattr(error, "reason", "")
        detail = str(error).removeprefix(f"{reason}: ") if isinstance(error, Reject) else str(error)
        kind = type(error).__name__ if isinstance(error, Preempted | SetupError | Reject) else "Retry"
        if not _is_superseded(request.parent, job.get("attempt")):
            _write(result, {"kind": kind, "reason": reason, "message": detail})
        return PREEMPTED if isinstance(error, Preempted) else 2
    if os.environ.get("RANK", "0") == "0":
        _write(result, {"checkpoint": asdict(checkpoint)})
    return 0


def _is_superseded(folder: Path, attempt: int | None) -> bool:
    """Whether a newer attempt than `attempt` was launched in `folder`; None stands for a job without a launcher."""
    return attempt is not None and newest_attempt(folder) > attempt


def _end_with_parent() -> None:
    """End this process when whoever launched it is gone: nobody would take the result, and a second attempt may start.

    The launcher holds the other end of standard input and never writes to it. Only a pipe says that much.
    """
    import stat

    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _write(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)
