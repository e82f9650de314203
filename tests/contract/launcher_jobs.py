"""A job that trains nothing, for the launchers' contract: it does what its arguments say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.records import Checkpoint
from tracemend.runtime.jobs import main


def run(arguments, *, folder: Path, progress) -> Checkpoint:
    for step in range(arguments.get("steps", 0)):
        progress(step + 1, arguments["steps"], 1.0 / (step + 1))
        (folder / f"pid-{os.environ.get('RANK', '0')}").write_text(str(os.getpid()))
        time.sleep(arguments.get("step_s", 0.0))
    if arguments.get("child"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "pid-child").write_text(str(child.pid))
        time.sleep(600)
    if arguments.get("compile"):
        _compile(arguments["compile"])
    if arguments.get("noise"):
        print("x" * arguments["noise"], "\nnoise", flush=True)
    match arguments.get("raise"):
        case "setup":
            raise SetupError("change the learning rate")
        case "retry":
            raise Retry("the disk is busy")
        case "reject":
            raise Reject("no_rows", "nothing to train on")
        case "bug":
            raise ZeroDivisionError("these are the last words")
        case "death":
            os.kill(os.getpid(), 9)
    ranks = float(os.environ.get("WORLD_SIZE", "1"))
    return Checkpoint(
        id="checkpoint",
        arm=arguments.get("arm", ""),
        parent="",
        model="model",
        path=str(folder),
        dataset="",
        step=3,
        final_loss=0.5,
        metrics={"ranks": ranks},
    )


def _compile(operator: str) -> None:
    """Take the lock that torch compiles `operator` under, and give it back."""
    from torch.utils.file_baton import FileBaton

    baton = FileBaton(os.path.join(os.environ["TORCH_EXTENSIONS_DIR"], operator, "lock"))
    while not baton.try_acquire():
        baton.wait()
    baton.release()


if __name__ == "__main__":
    sys.exit(main(run))
