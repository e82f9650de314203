"""Walking from a fork or rewrite to the sample that it goes back to, through the stored verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.builders import prompt, trajectory
from tests.fakes import FakeModel

from tracemend.embedded.ancestors import Ancestors
from tracemend.embedded.workspace import open_workspace
from tracemend.judge.service import JudgeService
from tracemend.judge.settings import JudgeSettings
from tracemend.records import Intervention, Trajectory, Verdict
from tracemend.topics import VERDICTS

GUARD = {"name": "llama_guard", "model": "guard"}
STRICT = {"name": "llama_guard", "model": "guard", "options": {"max_chars": 999}}
FORK = Intervention(kind="trigger", strategy="intervene")
SAMPLE = trajectory()
FIRST = trajectory(request="first", parent=SAMPLE.id, intervention=FORK, round=1)
SECOND = trajectory(request="second", parent=FIRST.id, intervention=FORK, round=2)
REWRITE = trajectory(request="rewrite", parent=SAMPLE.id, intervention=Intervention(kind="rewrite", strategy="rewrite"))


def looked_up(
    folder: Path, stored: Sequence[Trajectory], wanted: Sequence[Trajectory], *, verifier: bool = True
) -> tuple[list[str | None], list[str | None]]:
    """For each of `wanted`, the trajectory of its own verdict and of its original's, after `stored` were judged."""
    roles = {"harm": GUARD, **({"verifier": STRICT} if verifier else {})}
    judge = JudgeService.build(JudgeSettings.model_validate(roles), {"guard": FakeModel("unsafe\nS1")})

    def name(verdict: Verdict | None) -> str | None:
        return verdict and verdict.trajectory.id

    async def body() -> tuple[list[str | None], list[str | None]]:
        async with open_workspace(folder) as workspace:
            results = workspace.results
            frames = {judge.key_of(of): results.frame([(VERDICTS, await judge.grade(of))]) for of in stored}
            await results.save(frames, run="r", costs={})
            ancestors = Ancestors(judge, results)
            own = [name(await ancestors.verdict(of.id, of.prompt)) for of in wanted]
            return own, [name(await ancestors.original(of)) for of in wanted]

    return asyncio.run(body())


def test_a_verdict_is_found_whoever_judged(tmp_path: Path) -> None:
    everything = [SAMPLE, FIRST, SECOND, REWRITE]
    for verifier in (True, False):
        own, _ = looked_up(tmp_path / str(verifier), everything, everything, verifier=verifier)
        assert own == [of.id for of in everything]


def test_the_original_of_a_fork_of_any_round_and_of_a_rewrite_is_the_sample(tmp_path: Path) -> None:
    _, originals = looked_up(tmp_path, [SAMPLE, FIRST], [FIRST, SECOND, REWRITE])
    assert originals == [SAMPLE.id] * 3


def test_a_sample_has_no_original_and_a_broken_chain_ends(tmp_path: Path) -> None:
    _, originals = looked_up(tmp_path, [SAMPLE], [SAMPLE, SECOND, trajectory(prompt("other ?"), parent="unknown")])
    assert originals == [None, None, None]
