"""How the corrector finds the verdicts that a mended trajectory goes back to: by their judges' work keys."""

from __future__ import annotations

from tracemend.judge.service import JudgeService, is_mended
from tracemend.kit.results import Results
from tracemend.records import Prompt, Trajectory, Verdict


class Ancestors:
    """Looks verdicts up in the stored results of the judge stage."""

    def __init__(self, judge: JudgeService, results: Results) -> None:
        self._judge = judge
        self._results = results

    async def verdict(self, trajectory: str, prompt: Prompt) -> Verdict | None:
        """The verdict on the trajectory with this id, or None where it was never judged."""
        # An id does not say who judged: the judge of harm, or the verifier if the trajectory is itself mended.
        keys = [self._judge.work_key(trajectory, prompt, mended=mended) for mended in (False, True)]
        records = await self._results.records(list(dict.fromkeys(keys)))
        return next((records[key][0] for key in keys if key in records), None)

    async def original(self, trajectory: Trajectory) -> Verdict | None:
        """The verdict on the sample that a mended trajectory goes back to, through however many forks; None where one
        of them was never judged, or `trajectory` is itself a sample."""
        parent = trajectory.parent
        while parent:
            verdict = await self.verdict(parent, trajectory.prompt)
            if verdict is None or not is_mended(verdict.trajectory):
                return verdict
            parent = verdict.trajectory.parent
        return None
