"""Where traces of the proving ground's base model turn: cues stand near turning points, triggers turn traces back.

One base seed, the 24 most uncertain of 240 prompts with an unsafe and a safe trace each, 16 continuations per step: of
fewer prompts some are settled before the trace begins, and two of those decide over the correlation (docs/csr.md, which
has more seeds and prompts).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from benchmarks.csr import measure

from tracemend.cli.__main__ import main
from tracemend.corrector.triggers import pool
from tracemend.embedded.csr import Analysis
from tracemend.embedded.progress import Silent
from tracemend.records import Value

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NUM_PROMPTS, PER_SIDE, CONTINUATIONS = 24, 1, 16
SAME = ("--uncertain", str(NUM_PROMPTS), "--per-side", str(PER_SIDE), "--continuations", str(CONTINUATIONS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    folder: Path
    analysis: Analysis


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """Seed 0. TRACEMEND_CACHE shares the base model with other tests."""
    shared = os.environ.get("TRACEMEND_CACHE")
    cache = Path(shared) if shared else tmp_path_factory.mktemp("cache")
    folder = tmp_path_factory.mktemp("csr") / "run"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRACEMEND_CACHE", str(cache))  # the command looks there
        analysis = measure(
            folder,
            cache=cache,
            observer=Silent(),
            num_prompts=240,
            uncertain=NUM_PROMPTS,
            per_side=PER_SIDE,
            continuations=CONTINUATIONS,
        )
        yield Found(folder=folder, analysis=analysis)


def test_cues_stand_near_unsafe_turning_points_but_not_on_them(found: Found) -> None:
    """Pearson's r lies above 0.8 over at least 20 unsafe traces, and is not one by construction."""
    r = found.analysis.summary.correlation
    assert r is not None
    assert r.n >= 20
    assert 0.8 < r.r < 1


def test_the_ratio_drops_at_the_cue(found: Found) -> None:
    at_cue = found.analysis.summary.at_cue
    assert at_cue is not None
    assert at_cue.n >= 20
    assert at_cue.change.high < 0
    assert at_cue.after < 0.25 < at_cue.before


def test_the_ratio_rises_at_the_trigger(found: Found) -> None:
    at_trigger = found.analysis.summary.at_trigger
    assert at_trigger is not None
    assert at_trigger.n >= 20
    assert at_trigger.change.low > 0
    assert at_trigger.before < 0.6 < at_trigger.after


def test_most_traces_turn_before_they_end(found: Found) -> None:
    summary = found.analysis.summary
    assert summary.num_safe_turns >= 0.9 * summary.num_traces["safe"]
    assert summary.num_unsafe_turns >= 0.9 * summary.num_traces["unsafe"]


def test_continuations_of_a_place_share_their_prefix(found: Found) -> None:
    assert found.analysis.num_cached_tokens > 0.8 * found.analysis.num_prompt_tokens


def test_an_unsafe_trace_ends_without_hope_and_a_safe_one_without_danger(found: Found) -> None:
    """The ratio behind the last step is what the verdict on the trace says, but for what may follow unread."""
    for trace in found.analysis.traces:
        last = trace.curve.points[-1].reasoning.ratio
        assert last >= 0.5 if trace.curve.value is Value.SAFE else last <= 0.2


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["csr", *arguments])
    assert not ended.value.code
    return capsys.readouterr().out


def test_the_command_tells_draws_and_mines(found: Found, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the same folder everything has been drawn already: nothing is sampled again."""
    path = tmp_path / "mined.yaml"
    folder = str(found.folder)
    told = json.loads(said(capsys, folder, *SAME, "--json", "--triggers", str(path), "--min-prompts", "2"))
    assert told["synthetic"] is True
    assert told["num_continuations"] == found.analysis.num_continuations
    assert told["summary"]["num_cues"] == found.analysis.summary.num_cues
    assert {Path(name).suffix for name in told["figures"]} == {".svg"}
    assert len(list((found.folder / "csr").glob("*.svg"))) == len(found.analysis.traces)
    mined = pool(str(path))
    assert [trigger.text for trigger in mined] == [t.text for t in found.analysis.mined if t.num_prompts >= 2]
    words = mined[0].text.reveal()
    shown = said(capsys, folder, *SAME, "--figures", "none")
    assert "SYNTHETIC" in shown
    assert "First cue against unsafe turning point: r = " in shown
    assert words not in shown
    assert words in said(capsys, folder, *SAME, "--figures", "none", "--reveal")


def test_the_command_tells_one_trace_step_by_step(found: Found, capsys: pytest.CaptureFixture[str]) -> None:
    trace = next(t for t in found.analysis.traces if t.curve.value is Value.UNSAFE)
    name, words = trace.curve.trajectory, trace.steps[0].reveal().strip()
    arguments = (str(found.folder), name[:20], "--continuations", str(CONTINUATIONS), "--figures", "none")
    shown = said(capsys, *arguments)
    assert name in shown
    assert words not in shown
    (told,) = json.loads(said(capsys, *arguments, "--json"))["traces"]
    assert [row["token"] for row in told["ratios"]] == [point.token for point in trace.curve.points]
    assert told["curve"]["points"][0]["reasoning"] == {
        "num_safe": trace.curve.points[0].reasoning.num_safe,
        "num_unsafe": trace.curve.points[0].reasoning.num_unsafe,
        "num_unknown": trace.curve.points[0].reasoning.num_unknown,
    }
