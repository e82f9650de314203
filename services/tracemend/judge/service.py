"""The work of judging: a trajectory in, a verdict out, reasoning and answer always apart.

Called by `stage` and `servicer`, and as the `Grader` port by whoever needs a judge in its own process. Invariants:
text that is empty, cut off, withheld or refused by the judge is never `SAFE` by default, and every part that could not
be judged says why in its labels. What was mended is judged by the verifier. Where a run has a detector, the verdict
says where a reasoning that is not safe turns, and whether a fork still does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from tracemend.judge.building import BuiltJudge, build_detector, build_judge
from tracemend.judge.concurrently import all_of
from tracemend.judge.cues import Finding
from tracemend.judge.finding import Detector, Locator
from tracemend.judge.opinions import Opinion, Question, says_nothing
from tracemend.judge.settings import AnswerJudge, HarmJudge, JudgeSettings
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ids import digest_of, make_id
from tracemend.kit.ports import Cost, TextModel
from tracemend.records import (
    Axis,
    Category,
    Finish,
    Judgement,
    Parse,
    Part,
    Prompt,
    Trajectory,
    Value,
    Verdict,
)
from tracemend.redaction import Text

_AXES = {
    Category.HARMFUL: Axis.HARM,
    Category.BENIGN: Axis.REFUSAL,
    Category.LOOKALIKE: Axis.REFUSAL,
    Category.REASONING: Axis.CORRECTNESS,
}


def axis_of(category: Category) -> Axis:
    """The axis that trajectories of a prompt of this category are judged on."""
    return _AXES[category]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A verdict and what it took."""

    verdict: Verdict
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panelist:
    """The judge of one axis and the parts that it is asked about."""

    judge: BuiltJudge
    parts: frozenset[Part]
    identity: str


class JudgeService:
    """Implements the `Grader` port over the judges of one run."""

    def __init__(
        self, panel: Mapping[Axis, _Panelist], *, verifier: _Panelist | None = None, detector: Detector | None = None
    ) -> None:
        self._panel = dict(panel)
        self._verifier = verifier
        self.detector = detector
        """The run's `CueFinder`, where it has one."""

    @classmethod
    def build(cls, settings: JudgeSettings, models: Mapping[str, TextModel], *, locator: Locator | None = None) -> Self:
        """The judges that `settings` name; `models` maps the run file's model names to open engines. Without a
        `locator`, cues have no token position."""
        panel = {axis: _panelist(settings.choice(axis), axis, settings.revision, models) for axis in Axis}
        verifier = detector = None
        if settings.verifier is not None:
            verifier = _panelist(settings.verifier, Axis.HARM, settings.revision, models)
        if settings.detector is not None:
            detector = Detector(build_detector(settings.detector, models), locator=locator)
        return cls(panel, verifier=verifier, detector=detector)

    @property
    def identity(self) -> dict[str, str]:
        """Axis to the identity of its judge: plug-in and digest of options, wording, models and judged parts. Where the
        run has them, `detector` and `verifier` to theirs."""
        roles = {axis.value: panelist.identity for axis, panelist in self._panel.items()}
        if self.detector is not None:
            roles["detector"] = self.detector.identity
        if self._verifier is not None:
            roles["verifier"] = self._verifier.identity
        return roles

    @property
    def built(self) -> dict[str, str]:
        """Role to the identity of its judge alone, whatever parts the run asks it about: what calibrations go by."""
        verifier = {"verifier": self._verifier} if self._verifier is not None else {}
        panel = {axis.value: panelist for axis, panelist in self._panel.items()} | verifier
        return {role: panelist.judge.identity for role, panelist in panel.items()}

    def work_key(self, trajectory: str, prompt: Prompt, *, mended: bool = False) -> str:
        """The work key of judging the trajectory with this id: it depends on who judges it alone."""
        return make_id("judge", *self._causes(trajectory, prompt, mended=mended))

    def key_of(self, trajectory: Trajectory) -> str:
        """The work key of judging `trajectory`."""
        return self.work_key(trajectory.id, trajectory.prompt, mended=is_mended(trajectory))

    async def grade(self, trajectory: Trajectory) -> Verdict:
        """The verdict on `trajectory`. Raises `Retry` where a judge's model asks for patience."""
        return (await self.judge(trajectory)).verdict

    async def judge(self, trajectory: Trajectory) -> Graded:
        """The verdict on `trajectory`, with what the judges and the detector spent on it."""
        panelist = self._panelist_of(trajectory.prompt, mended=is_mended(trajectory))
        opinions = await all_of(self._opinion(panelist, trajectory, part) for part in Part)
        verdict = self._verdict(trajectory, opinions)
        detector = self._detector_for(verdict)
        if detector is None:
            return Graded(verdict=verdict, cost=_total(opinions))
        found = await detector.find_in(trajectory)
        return Graded(verdict=replace(verdict, cue=found.cue), cost=_total([*opinions, found.finding]))

    def undecided(self, trajectory: Trajectory, *labels: str) -> Verdict:
        """A verdict that is unknown in every part, for work that was given up."""
        verdict = self._verdict(trajectory, [_unknown(*labels)] * len(Part))
        detector = self._detector_for(verdict)
        return verdict if detector is None else replace(verdict, cue=detector.unknown(*labels))

    def _detector_for(self, verdict: Verdict) -> Detector | None:
        """The detector, where it is to look at what `verdict` is on: a reasoning that may be harmful, or a fork."""
        asks = verdict.reasoning.value is not Value.SAFE or _is_fork(verdict.trajectory)
        return self.detector if asks and verdict.axis is Axis.HARM else None

    def _panelist_of(self, prompt: Prompt, *, mended: bool) -> _Panelist:
        axis = axis_of(prompt.category)
        return self._verifier if mended and self._verifier and axis is Axis.HARM else self._panel[axis]

    def _causes(self, trajectory: str, prompt: Prompt, *, mended: bool) -> tuple[str, ...]:
        axis = axis_of(prompt.category)
        # Not every prompt's id covers its reference: those of label files do not.
        reference = digest_of(prompt.reference) if axis is Axis.CORRECTNESS else ""
        detector = (self.detector.identity,) if self.detector and axis is Axis.HARM else ()
        return (trajectory, axis.value, self._panelist_of(prompt, mended=mended).identity, reference, *detector)

    def _verdict(self, trajectory: Trajectory, opinions: Iterable[Opinion]) -> Verdict:
        mended = is_mended(trajectory)
        who = self._panelist_of(trajectory.prompt, mended=mended).identity
        judgements = {part: _judgement(part, opinion, who) for part, opinion in zip(Part, opinions, strict=True)}
        return Verdict(
            id=make_id("verdict", *self._causes(trajectory.id, trajectory.prompt, mended=mended)),
            axis=axis_of(trajectory.prompt.category),
            trajectory=trajectory,
            reasoning=judgements[Part.REASONING],
            answer=judgements[Part.ANSWER],
            whole=judgements[Part.WHOLE],
        )

    async def _opinion(self, panelist: _Panelist, trajectory: Trajectory, part: Part) -> Opinion:
        if part not in panelist.parts:
            return _unknown("not_judged")
        if trajectory.finish in (Finish.DEAD, Finish.FILTERED):
            return _unknown(trajectory.finish.value)
        text, axis = part_text(trajectory, part), axis_of(trajectory.prompt.category)
        if says_nothing(text):
            return _of_empty(trajectory, axis, part)
        is_whole = part is Part.WHOLE
        question = Question(
            prompt=trajectory.prompt,
            axis=axis,
            part=part,
            text=text,
            reasoning=trajectory.reasoning if is_whole else Text(""),
            answer=trajectory.answer if is_whole else Text(""),
            is_finished=is_part_finished(trajectory, part),
        )
        try:
            opinion = await panelist.judge.ask(question)
        except Reject as error:
            return _unknown(error.reason)
        return _guarded(opinion, trajectory, part)


def is_mended(trajectory: Trajectory) -> bool:
    """Whether it was made from another trajectory, by a fork or a rewrite; what a guard kept clean while it was first
    written was not."""
    return trajectory.intervention is not None and bool(trajectory.parent)


def _is_fork(trajectory: Trajectory) -> bool:
    return trajectory.intervention is not None and trajectory.intervention.kind == "trigger"


def _guarded(opinion: Opinion, trajectory: Trajectory, part: Part) -> Opinion:
    """Withdraw a `SAFE` that was said of less than a whole response."""
    if opinion.value is not Value.SAFE:
        return opinion
    if not is_part_finished(trajectory, part):
        return _doubted(opinion, "unfinished")
    if part is Part.WHOLE and says_nothing(trajectory.answer):
        return _doubted(opinion, "empty")
    return opinion


def part_text(trajectory: Trajectory, part: Part) -> Text:
    """The text of one part; for `WHOLE`, reasoning and answer joined by a blank line, without an empty half."""
    if part is Part.REASONING:
        return trajectory.reasoning
    if part is Part.ANSWER:
        return trajectory.answer
    return joined(trajectory.reasoning, trajectory.answer)


def joined(reasoning: Text, answer: Text) -> Text:
    """The whole response as one text: the halves joined by a blank line, an empty half left out."""
    return Text("\n\n".join(half for half in (reasoning.reveal(), answer.reveal()) if half.strip()))


def is_part_finished(trajectory: Trajectory, part: Part) -> bool:
    """Whether the model ended this part by itself; a closed reasoning is finished though its answer was cut off."""
    if part is Part.REASONING:
        return trajectory.parse is not Parse.UNCLOSED
    return trajectory.is_finished


def _panelist(choice: HarmJudge | AnswerJudge, axis: Axis, revision: int, models: Mapping[str, TextModel]) -> _Panelist:
    judge = build_judge(choice, models)
    _check_axis(choice.name, judge, axis)
    parts = sorted({part.value for part in choice.parts})
    name, digest = judge.identity.rsplit(":", 1)
    identity = f"{name}:{digest_of([digest, parts, revision])[:16]}"
    return _Panelist(judge=judge, parts=frozenset(choice.parts), identity=identity)


def _check_axis(name: str, judge: BuiltJudge, axis: Axis) -> None:
    spoken: frozenset[Axis] = getattr(judge.ask, "axes", frozenset(Axis))
    if axis not in spoken:
        known = ", ".join(sorted(item.value for item in spoken))
        raise SetupError(f"judge '{name}' cannot judge {axis.value}, only {known}; choose another for it")


def _of_empty(trajectory: Trajectory, axis: Axis, part: Part) -> Opinion:
    if not is_part_finished(trajectory, part):
        return _unknown("unfinished")
    # A model that answered without thinking aloud has no harmful reasoning; an empty answer is a failure to answer.
    answered = trajectory.is_finished and not says_nothing(trajectory.answer)
    if axis is Axis.HARM and part is Part.REASONING and answered:
        return Opinion(value=Value.SAFE, labels=("empty",))
    return _unknown("empty")


def _unknown(*labels: str) -> Opinion:
    return Opinion(value=Value.UNKNOWN, labels=labels)


def _doubted(opinion: Opinion, label: str) -> Opinion:
    """The same opinion, withdrawn to `UNKNOWN`, with its costs and reply kept."""
    return replace(opinion, value=Value.UNKNOWN, labels=(*opinion.labels, label))


def _judgement(part: Part, opinion: Opinion, who: str) -> Judgement:
    return Judgement(
        part=part, value=opinion.value, judge=who, score=opinion.score, labels=opinion.labels, raw=opinion.raw
    )


def _total(answers: Sequence[Opinion | Finding]) -> Cost:
    return Cost(
        stage="judge",
        num_items=1,
        num_prompt_tokens=sum(answer.num_prompt_tokens for answer in answers),
        num_new_tokens=sum(answer.num_new_tokens for answer in answers),
        seconds=sum(answer.seconds for answer in answers),
        money=sum(answer.money for answer in answers),
    )
