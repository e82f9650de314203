"""`tracemend run` and `tracemend demo`: a pipeline under a progress display, interruptible and resumable."""

from __future__ import annotations

import asyncio
import importlib.resources
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from tracemend.cli.console import observer_for
from tracemend.embedded.budget import BudgetSpent
from tracemend.embedded.pipeline import Finished, run_pipeline
from tracemend.embedded.progress import Observer
from tracemend.embedded.revisions import check_phase
from tracemend.embedded.runfile import RunFile, load_run_file, parse_run_file
from tracemend.kit import own_process
from tracemend.kit.logs import log_to_stderr

T = TypeVar("T")

EXIT_BUDGET = 4
EXIT_INTERRUPTED = 130


_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
"""Libraries that draw bars or warn about their own defaults would write over our display. A user's own value stays."""


def quiet_libraries() -> None:
    """Set what keeps libraries quiet; they read it when they are imported."""
    no_gpu = {} if Path("/dev/nvidiactl").exists() else {"DS_ACCELERATOR": "cpu"}
    for name, value in (_QUIET | no_gpu).items():
        os.environ.setdefault(name, value)


def cache_folder() -> Path:
    """Where trained proving-ground models are kept: `TRACEMEND_CACHE`, else `~/.cache/tracemend`."""
    return Path(os.environ.get("TRACEMEND_CACHE") or Path.home() / ".cache" / "tracemend")


def demo(out: Path, *, as_json: bool) -> None:
    """Run the demo's run file and say where to go from there."""
    text = importlib.resources.files("tracemend.embedded").joinpath("demo.yaml").read_text(encoding="utf-8")
    settings = parse_run_file(text, name="demo.yaml")
    command = f"tracemend demo --out {shlex.quote(str(out))}"
    finished = _execute(settings, out, text=text, command=command, as_json=as_json)
    if as_json:
        _tell_end(finished)
    else:
        _show(finished)
        print(f"Run file: {out / 'run.yaml'}  (copy it, name your own model and prompts)")
        print(f"Next:     tracemend verify {shlex.quote(str(out))} · tracemend doctor MODEL_FOLDER")


def run(run_file: Path, out: Path, *, limit: int | None, dry_run: bool, from_phase: str | None, as_json: bool) -> None:
    """Run `run_file` in `out`."""
    settings = load_run_file(run_file)
    if limit is not None:
        settings = settings.model_copy(update={"limit": limit})
    if from_phase is not None:
        check_phase(from_phase)
    if dry_run:
        from tracemend.cli.planning import dry_run as body

        body(settings, as_json=as_json)
        return
    text = run_file.read_text(encoding="utf-8")
    command = f"tracemend run {shlex.quote(str(run_file))} --out {shlex.quote(str(out))}"
    command += f" --limit {limit}" if limit is not None else ""
    finished = _execute(settings, out, text=text, command=command, as_json=as_json, again=from_phase)
    if as_json:
        _tell_end(finished)
    else:
        _show(finished)


def _show(finished: Finished) -> None:
    """What was found, and where the report lies."""
    if finished.report is None:
        print("Report:   none (the run file has no `evaluate` section)")
        return
    from tracemend.cli.looking import show_headline

    show_headline(finished.report)
    print(f"Report:   {finished.report}")


def _tell_end(finished: Finished) -> None:
    report = str(finished.report) if finished.report else None
    print(json.dumps({"event": "finished", "run": finished.run, "report": report}), flush=True)


def _execute(
    settings: RunFile, out: Path, *, text: str, command: str, as_json: bool, again: str | None = None
) -> Finished:
    observer = observer_for(as_json=as_json)

    async def work() -> Finished:
        return await run_pipeline(settings, out, cache=cache_folder(), observer=observer, again=again, text=text)

    return until_done(work, observer=observer, command=command)


def until_done(work: Callable[[], Coroutine[Any, Any, T]], *, observer: Observer, command: str) -> T:
    """What resumable `work` returns. Signals stop it, as does a spent budget, with the way to go on and the exit codes
    of this module."""
    quiet_libraries()
    log_to_stderr()

    async def body() -> T:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work()

    finished = False
    try:
        done = own_process.run(body())
        finished = True
        return done
    except BudgetSpent as spent:
        observer.close(finished=False)
        print(f"tracemend: {spent}", file=sys.stderr)
        raise SystemExit(EXIT_BUDGET) from None
    except asyncio.CancelledError:
        observer.close(finished=False)
        print(f"\nStopped; nothing is lost. Go on with: {command}", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    finally:
        observer.close(finished=finished)
