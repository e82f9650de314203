"""How the corrector finds the verdict on the trajectory that a teacher's text replaces: by its judge's work key."""

from __future__ import annotations

from tracemend.judge.service import JudgeService
from tracemend.kit.results import Results
from tracemend.records import Prompt, Verdict


class Ancestors:
    """Looks verdicts up in the stored results of the judge stage."""

    def __init__(self, judge: JudgeService, results: Results) -> None:
        self._judge = judge
        self._results = results

    async def verdict(self, trajectory: str, prompt: Prompt) -> Verdict | None:
        """The verdict on the trajectory with this id, or None where it was never judged."""
        key = self._judge.work_key(trajectory, prompt)
        records = await self._results.records([key])
        return records[key][0] if key in records else None
