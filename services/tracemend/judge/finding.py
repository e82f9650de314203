"""A detector of one run, asked about texts and trajectories: sentence numbers become char and token positions.

Called by `service` for verdicts, and as the `CueFinder` port by guards and analyses. Invariants: the steps are those of
`traces.segmentation`, so whatever else cuts at steps cuts at the same places; a detector whose answer is no sentence's
number could not tell; what could not be looked at is never said to be without a cue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tracemend.judge.building import BuiltDetector
from tracemend.judge.cues import CANNOT_TELL, FIRST_STEP, NO_CUE, Finding, Search, cannot_tell
from tracemend.kit.errors import Reject
from tracemend.records import Cue, Finish, Prompt, Span, Trajectory
from tracemend.redaction import Text
from tracemend.traces.segmentation import segment


class Locator(Protocol):
    """Who knows the target's tokenizer."""

    def cut(self, trajectory: Trajectory, char: int) -> int:
        """How many of the trajectory's ids to keep so that nothing from char `char` of its reasoning on is kept; -1
        where its ids do not spell its reasoning."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A cue and the finding behind it, which knows what it took."""

    cue: Cue
    finding: Finding


class Detector:
    """Implements the `CueFinder` port."""

    def __init__(self, detector: BuiltDetector, *, locator: Locator | None = None) -> None:
        """Without a `locator`, cues have no token position."""
        self._detector = detector
        self._locator = locator

    @property
    def identity(self) -> str:
        """`<plug-in>:<digest of options, wording and model>`."""
        return self._detector.identity

    async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
        """The first compliance cue of `reasoning`, without a token position. Raises `Retry` where the detector's model
        asks for patience."""
        return (await self._look(prompt, reasoning)).cue

    async def find_in(self, trajectory: Trajectory) -> Found:
        """The first compliance cue of a trajectory's reasoning, with its token position where it has ids."""
        if trajectory.finish in (Finish.DEAD, Finish.FILTERED):
            return self._found(cannot_tell(trajectory.finish.value), ())
        return await self._look(trajectory.prompt, trajectory.reasoning, trajectory)

    def unknown(self, *labels: str) -> Cue:
        """What is said of work that was given up."""
        return self._found(cannot_tell(*labels), ()).cue

    async def _look(self, prompt: Prompt, reasoning: Text, of: Trajectory | None = None) -> Found:
        steps = segment(reasoning)
        if len(steps) < FIRST_STEP:
            return self._found(Finding(step=NO_CUE, labels=("too_short",)), steps)
        plain = reasoning.reveal()
        sentences = tuple(Text(plain[span.start : span.end]) for span in steps)
        try:
            finding = await self._detector.ask(Search(prompt=prompt, sentences=sentences))
        except Reject as error:
            finding = cannot_tell(error.reason)
        return self._found(finding, steps, of)

    def _found(self, finding: Finding, steps: Sequence[Span], of: Trajectory | None = None) -> Found:
        step, labels = finding.step, finding.labels
        if step not in (NO_CUE, CANNOT_TELL) and not FIRST_STEP <= step <= len(steps):
            step, labels = CANNOT_TELL, (*labels, "out_of_range")
        char = steps[step - 1].start if step >= FIRST_STEP else -1
        token = -1
        if char >= 0 and of is not None and of.token_ids and self._locator is not None:
            token = self._locator.cut(of, char)
        cue = Cue(
            detector=self.identity,
            step=step,
            num_steps=len(steps),
            char=char,
            token=token,
            labels=labels,
            raw=finding.raw,
        )
        return Found(cue=cue, finding=finding)
