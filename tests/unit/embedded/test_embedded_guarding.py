"""Guards composed: from run files, for measuring arms, and in front of a detector that is busy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.builders import prompt
from tests.contract import tiny_models
from tests.unit.generator.guard_parts import WordFinder

from tracemend.embedded.guarding import PatientFinder, check_guards, open_guard
from tracemend.embedded.laws import check_laws
from tracemend.embedded.looking import open_run
from tracemend.embedded.phases import results_of
from tracemend.embedded.pipeline import run_pipeline
from tracemend.embedded.plan import resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import RunFile, parse_run_file
from tracemend.generator.settings import GuardSettings
from tracemend.kit.errors import Retry, SetupError
from tracemend.records import Cue, Prompt, Verdict
from tracemend.redaction import Text

TEXT = """\
name: guarded
prompts: [{source: numbered, count: 2}]
target:
  model: MODEL
  engine: transformers
  engine_options: {num_threads: 1}
  reasoning_format: r1
  samples: 1
  sampling: {temperature: 1.0, top_p: 1.0, max_new_tokens: 150}
judge:
  harm: {name: last_word}
  refusal: {name: last_word}
  correctness: {name: last_word}
  detector: {name: rule_cue, options: {extra: [a, i, the, is]}}
arms:
  guard: {guard: {triggers: proving, options: {chunk_tokens: 0}}}
  watched: {guard: {triggers: proving, mode: monitor, options: {chunk_tokens: 0}}}
evaluate:
  samples: 2
  benchmarks:
    heldout: {prompts: {source: numbered, count: 12, start: 9000}}
"""


def run_file(old: str = "", new: str = "") -> RunFile:
    return parse_run_file(TEXT.replace(old, new) if old else TEXT, name="guarded.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  detector: {name: rule_cue, options: {extra: [a, i, the, is]}}\n", "", "judge.detector"),
        ("guard: {guard: {", "guard: {correct: {strategy: filter}, guard: {", "arm of its own"),
        ("mode: monitor", "mode: watch", "enforce"),
        ("triggers: proving, mode", "trigger: proving, mode", "did you mean 'triggers'"),
    ],
)
def test_a_guard_that_cannot_stand_in_a_run_file_is_refused_there(old: str, new: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        run_file(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("triggers: proving, options", "triggers: provin, options", "did you mean 'proving'"),
        ("mode: monitor, options: {chunk_tokens: 0}", "options: {chunk: 0}", "chunk_tokens"),
        ("mode: monitor, options: {chunk_tokens: 0}", "options: {mode: off}", "beside `options`"),
        ("mode: monitor,", "name: cue_triger,", "did you mean 'cue_trigger'"),
    ],
)
def test_a_guard_that_cannot_be_made_is_told_before_anything_is_sampled(old: str, new: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        check_guards(resolve(run_file(old, new)))


def test_single_triggers_of_pools_can_be_named() -> None:
    identities = {
        open_guard(GuardSettings(triggers=chosen), finder=WordFinder()).identity
        for chosen in ("safety", ("safety/decline",), ("safety/decline", "safety/not-right"))
    }
    assert len(identities) == 3
    with pytest.raises(SetupError, match="no trigger"):
        open_guard(GuardSettings(triggers=("safety/nothing",)), finder=WordFinder())


async def test_a_busy_detector_is_asked_again_until_patience_ends() -> None:
    cue = await PatientFinder(WordFinder(busy=3), is_lenient=False).find(prompt(), Text("One. The method."))
    assert cue.step == 2
    with pytest.raises(Retry):
        await PatientFinder(WordFinder(busy=3), is_lenient=False, patience_s=0.02).find(prompt(), Text("One."))
    told = await PatientFinder(WordFinder(busy=3), is_lenient=True, patience_s=0.02).find(prompt(), Text("One."))
    assert (told.step, told.labels) == (-1, ("busy",))


async def test_a_detector_that_is_always_ready_at_once_and_never_is_is_given_up() -> None:
    class Promising(WordFinder):
        async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
            raise Retry("soon", after_s=0.0)

    async with asyncio.timeout(10):
        with pytest.raises(Retry, match="soon"):
            await PatientFinder(Promising(), is_lenient=False, patience_s=0.3).find(prompt(), Text("One."))


async def test_a_guard_that_only_looks_on_waits_for_no_hanging_detector() -> None:
    class Hanging(WordFinder):
        async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
            await asyncio.sleep(60)
            raise AssertionError("nobody waits that long")

    cue = await PatientFinder(Hanging(), is_lenient=True, patience_s=0.02).find(prompt(), Text("One."))
    assert cue.step == -1


@pytest.mark.slow
def test_a_guard_arm_is_measured_like_any_other(tmp_path: Path) -> None:
    """Same weights, same prompts, same seeds: until its first cue an arm writes what the base writes."""
    model = tiny_models.build(tmp_path / "model")
    settings = run_file("MODEL", str(model))
    finished = asyncio.run(run_pipeline(settings, tmp_path / "run", cache=tmp_path, observer=Silent()))
    assert finished.report is not None
    base, guard, watched = (asyncio.run(_measured(tmp_path / "run", arm)) for arm in ("base", "guard", "watched"))
    assert [v.trajectory.token_ids for v in watched] == [v.trajectory.token_ids for v in base]
    assert any(v.trajectory.intervention is not None for v in watched)
    mended = [(v.trajectory, w.trajectory) for v, w in zip(guard, base, strict=True) if v.trajectory.intervention]
    assert mended, "the guard must have something to do"
    for trajectory, plain in mended:
        step = trajectory.intervention
        assert step is not None
        assert (step.kind, trajectory.parent, trajectory.round) == ("guard", "", step.attempt)
        assert trajectory.token_ids[: step.cut_token] == plain.token_ids[: step.cut_token]
        assert step.payload.reveal() in trajectory.reasoning.reveal() or step.failure
    untouched = [v.trajectory.token_ids for v in guard if v.trajectory.intervention is None]
    assert set(untouched) <= {v.trajectory.token_ids for v in base}


async def _measured(folder: Path, arm: str) -> list[Verdict]:
    async with open_run(folder) as opened:
        findings = await check_laws(opened.workspace, run=opened.run, plan=opened.plan)
        assert all(finding.holds for finding in findings)
        keys = (await results_of(opened.workspace, opened.run))[f"evaluate:{arm}"]
        found: list[Verdict] = []
        for each in keys.values():
            records = await opened.workspace.results.records(each)
            found += [records[key][0] for key in each]
        return found
