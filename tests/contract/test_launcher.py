"""The launcher port: jobs run to their result, fail in their own words, and leave nothing behind when cancelled."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from tracemend.adapters.launchers import InlineLauncher, Preempted, SubprocessLauncher, begin_attempt
from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.kit.ports import Job
from tracemend.runtime.jobs import open_launcher

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


@pytest.fixture(params=["inline", "subprocess"])
def kind(request) -> str:
    return request.param


def launcher(kind: str, report=None):
    if kind == "inline":
        return InlineLauncher(report=report)
    return SubprocessLauncher(report=report, environment=ENVIRONMENT)


def job(folder: Path, *, num_processes: int = 1, **arguments) -> Job:
    return Job(
        name="job",
        module="tests.contract.launcher_jobs",
        arguments=arguments,
        folder=str(folder / "job"),
        num_processes=num_processes,
    )


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition, *, patience_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_a_job_runs_to_its_checkpoint_and_reports_its_steps(kind, tmp_path):
    seen = []
    checkpoint = await launcher(kind, lambda *step: seen.append(step)).run(job(tmp_path, arm="a", steps=3))
    assert (checkpoint.arm, checkpoint.final_loss, checkpoint.metrics) == ("a", 0.5, {"ranks": 1.0})
    assert seen == [("job", 1, 3, 1.0), ("job", 2, 3, 0.5), ("job", 3, 3, pytest.approx(1 / 3))]


@pytest.mark.parametrize(
    ("raised", "error", "words"),
    [
        ("setup", SetupError, "change the learning rate"),
        ("retry", Retry, "the disk is busy"),
        ("reject", Reject, "no_rows: nothing to train on"),
    ],
)
async def test_a_job_fails_in_its_own_words(kind, tmp_path, raised, error, words):
    with pytest.raises(error) as caught:
        await launcher(kind).run(job(tmp_path, **{"raise": raised}))
    assert str(caught.value) == words


async def test_a_result_of_an_earlier_attempt_is_not_taken_for_a_new_one(kind, tmp_path):
    await launcher(kind).run(job(tmp_path))
    with pytest.raises(SetupError):
        await launcher(kind).run(job(tmp_path, **{"raise": "setup"}))


async def test_a_cancelled_job_ends(kind, tmp_path):
    steps = []
    task = asyncio.create_task(
        launcher(kind, lambda *step: steps.append(step)).run(job(tmp_path, steps=10_000, step_s=0.01))
    )
    await until(lambda: len(steps) > 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    num_steps = len(steps)
    await asyncio.sleep(0.1)
    assert len(steps) == num_steps


async def test_jobs_in_this_process_take_turns(tmp_path):
    running, most = [0], [0]

    def report(name, step, num_steps, loss):
        running[0] += (step == 1) - (step == num_steps)
        most[0] = max(most[0], running[0])

    one = launcher("inline", report)
    await asyncio.gather(*(one.run(job(tmp_path / str(at), steps=4, step_s=0.01)) for at in range(3)))
    assert most == [1]


async def test_a_crash_is_told_with_exit_code_and_last_words(tmp_path):
    with pytest.raises(Reject, match=r"exit code 1(.|\n)*these are the last words") as caught:
        await launcher("subprocess").run(job(tmp_path, **{"raise": "bug"}))
    assert caught.value.reason == "job_failed"
    with pytest.raises(Reject, match="exit code -9"):
        await launcher("subprocess").run(job(tmp_path, **{"raise": "death"}))


async def test_a_lock_that_a_killed_compilation_left_stops_nobody(tmp_path):
    """torch waits for ever for a lock file to go, whoever made it."""
    left = tmp_path / "job" / "job.extensions" / "operator" / "lock"
    left.parent.mkdir(parents=True)
    left.touch()
    await launcher("subprocess").run(job(tmp_path, compile="operator"))
    assert not left.exists()


async def test_noise_on_standard_output_goes_to_the_log(tmp_path):
    seen = []
    await launcher("subprocess", lambda *step: seen.append(step)).run(job(tmp_path, steps=1, noise=300_000))
    log = (tmp_path / "job" / "job.log").read_text()
    assert len(seen) == 1
    assert log.count("x") == 300_000
    assert "noise" in log


async def test_cancelling_ends_the_job_and_its_children(tmp_path):
    task = asyncio.create_task(launcher("subprocess").run(job(tmp_path, steps=1, child=True)))
    pid_file = tmp_path / "job" / "pid-child"
    await until(lambda: pid_file.exists() and pid_file.read_text())
    pids = [int((tmp_path / "job" / name).read_text()) for name in ("pid-0", "pid-child")]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(is_alive(pid) for pid in pids))


async def test_a_job_ends_when_its_launcher_is_killed(tmp_path):
    script = (
        "import asyncio, sys\n"
        "from tracemend.adapters.launchers import SubprocessLauncher\n"
        "from tracemend.kit.ports import Job\n"
        "job = Job(name='job', module='tests.contract.launcher_jobs', arguments={'steps': 9999, 'step_s': 0.05},\n"
        "          folder=sys.argv[1])\n"
        "asyncio.run(SubprocessLauncher().run(job))\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(tmp_path / "job")), env={**os.environ, **ENVIRONMENT}, cwd=ROOT
    )
    pid_file = tmp_path / "job" / "pid-0"
    await until(lambda: pid_file.exists() and pid_file.read_text())
    parent.kill()
    await parent.wait()
    await until(lambda: not is_alive(int(pid_file.read_text())))


@pytest.mark.slow
async def test_torchrun_gives_each_process_its_rank_and_the_first_one_the_word(tmp_path):
    seen = []
    checkpoint = await launcher("subprocess", lambda *step: seen.append(step)).run(job(tmp_path, num_processes=2))
    assert checkpoint.metrics == {"ranks": 2.0}
    with pytest.raises(SetupError, match="change the learning rate"):
        await launcher("subprocess").run(job(tmp_path, num_processes=2, **{"raise": "setup"}))


def test_an_unknown_launcher_is_refused_by_name():
    with pytest.raises(SetupError, match="did you mean 'subprocess'"):
        open_launcher("subproces")


@pytest.mark.slow
async def test_of_several_processes_the_killed_one_is_named_and_none_is_left(tmp_path):
    task = asyncio.create_task(launcher("subprocess").run(job(tmp_path, num_processes=2, steps=10_000, step_s=0.05)))
    files = [tmp_path / "job" / f"pid-{rank}" for rank in (0, 1)]
    await until(lambda: all(file.exists() and file.read_text() for file in files), patience_s=60.0)
    pids = [int(file.read_text()) for file in files]
    os.kill(pids[1], 9)
    with pytest.raises(Reject, match="process 1 was ended by SIGKILL first"):
        await task
    await until(lambda: not any(is_alive(pid) for pid in pids))


@pytest.mark.slow
async def test_cancelling_ends_all_processes_of_a_group(tmp_path):
    task = asyncio.create_task(launcher("subprocess").run(job(tmp_path, num_processes=2, steps=10_000, step_s=0.05)))
    files = [tmp_path / "job" / f"pid-{rank}" for rank in (0, 1)]
    await until(lambda: all(file.exists() and file.read_text() for file in files), patience_s=60.0)
    pids = [int(file.read_text()) for file in files]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(is_alive(pid) for pid in pids))


async def test_a_job_that_is_ended_by_sigterm_is_preempted_and_not_failed(tmp_path):
    task = asyncio.create_task(launcher("subprocess").run(job(tmp_path, steps=10_000, step_s=0.05)))
    pid_file = tmp_path / "job" / "pid-0"
    await until(lambda: pid_file.exists() and pid_file.read_text())
    os.kill(int(pid_file.read_text()), 15)
    with pytest.raises(Preempted):
        await task


async def test_an_attempt_that_was_superseded_stops_and_publishes_nothing(tmp_path):
    task = asyncio.create_task(launcher("subprocess").run(job(tmp_path, steps=10_000, step_s=0.05)))
    pid_file = tmp_path / "job" / "pid-0"
    await until(lambda: pid_file.exists() and pid_file.read_text())
    assert begin_attempt(tmp_path / "job") == 2
    with pytest.raises(Reject, match="exit code 2"):
        await task
    assert not (tmp_path / "job" / "job.result.json").exists()
