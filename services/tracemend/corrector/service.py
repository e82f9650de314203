"""The work of correcting: a request in, a trajectory by a strong model out.

Called by `stage`. Asks the teacher, then the fallback where the teacher refuses or its provider withholds the reply.
Every request gives one trajectory: text that cannot be used is kept as a plain answer, with the reason in
`intervention.failure`, so that what became of it is decided (and bounded) in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracemend.corrector.attempts import REFUSED, WITHHELD
from tracemend.corrector.replies import Reply, is_refusal, read_reply, read_scores
from tracemend.corrector.requests import settings_digest
from tracemend.corrector.settings import CorrectionPlan, CorrectSettings
from tracemend.corrector.strategy import Messages, Strategy, Terms, make_strategy
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ids import make_id, seed_of, trajectory_id
from tracemend.kit.ports import Completion, Cost, ModelRequest, TextModel
from tracemend.records import Finish, Intervention, Parse, RewriteRequest, Trajectory
from tracemend.redaction import Text

STAGE = "teacher"
"""Name of the stage that this work runs in, as costs and progress show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a teacher wrote, and what it took."""

    trajectory: Trajectory
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One model's completion, as it was read."""

    producer: str
    completion: Completion
    reply: Reply | None = None
    failure: str = ""


class TeacherService:
    """Writes texts for every arm of a plan. `models` maps the run file's model names to open engines."""

    def __init__(self, plan: CorrectionPlan, models: Mapping[str, TextModel]) -> None:
        named = {name for arm in plan.arms for name in arm.correct.models}
        missing = sorted(named - set(models))
        if missing:
            raise SetupError(f"no model is open under the name {', '.join(missing)}; add it to `models`")
        self._models = {name: models[name] for name in named}
        identities = {name: model.identity for name, model in self._models.items()}
        self._sections = {settings_digest(arm.correct, identities): arm.correct for arm in plan.arms}

    async def write(self, request: RewriteRequest) -> Written:
        """The trajectory that answers `request`.

        Raises `Retry` where a model asks for patience, `Reject` where none of the models can take the request.
        """
        correct = self._sections.get(request.settings)
        if correct is None:
            raise Reject("unknown_settings", f"no arm of the plan has the `correct` section {request.settings[:12]}")
        strategy = _strategy(correct, request.strategy)
        attempts = await self._ask(request, correct, strategy.messages(request))
        last = attempts[-1]
        scoring = await self._score(request, correct, strategy, last.reply)
        spent = [attempt.completion for attempt in attempts] + ([scoring] if scoring else [])
        is_scored = scoring is not None and scoring.finish is Finish.STOP
        scores = read_scores(scoring.text) if scoring is not None and is_scored else {}
        trajectory = _trajectory(request, last, kind=strategy.kind, scores=scores, cost=_cost(spent))
        return Written(trajectory=trajectory, cost=_cost(spent))

    async def _ask(self, request: RewriteRequest, correct: CorrectSettings, messages: Messages) -> list[_Attempt]:
        """The teacher's attempt, and the fallback's where the teacher would not or could not write."""
        attempts: list[_Attempt] = []
        hopeless: Reject | None = None
        for role, name in (("teacher", correct.teacher), ("fallback", correct.fallback)):
            if not name:
                continue
            try:
                completion = await self._models[name].complete(_model_request(request, correct, messages, role=role))
            except Reject as error:
                hopeless = error
                continue
            attempts.append(_read(self._models[name].identity, completion))
            if attempts[-1].failure not in (REFUSED, WITHHELD):
                break
        if not attempts:
            raise hopeless or Reject("no_teacher", "the arm names no strong model")
        return attempts

    async def _score(
        self, request: RewriteRequest, correct: CorrectSettings, strategy: Strategy, reply: Reply | None
    ) -> Completion | None:
        messages = strategy.score_messages(request, reply) if reply is not None else None
        if messages is None:
            return None
        scorer = self._models[correct.scorer or correct.teacher]
        try:
            return await scorer.complete(_model_request(request, correct, messages, role="scorer"))
        except Reject:  # a draft that cannot be scored has no full marks; the strategy says what follows
            return None


def given_up(request: RewriteRequest, reason: str) -> Trajectory:
    """The trajectory without text that stands for a request that was given up, so that its unit still ends."""
    nothing = _Attempt(producer="", completion=Completion(text=Text(""), finish=Finish.DEAD), failure=reason)
    return _trajectory(request, nothing, kind=request.strategy, scores={}, cost=_cost([]))


def _strategy(correct: CorrectSettings, name: str) -> Strategy:
    """The strategy for wording alone; what rules it decides by does not matter here."""
    return make_strategy(name, Terms(), correct.options if name == correct.strategy else {})


def _model_request(request: RewriteRequest, correct: CorrectSettings, messages: Messages, *, role: str) -> ModelRequest:
    seed = seed_of(make_id("seed", request.id, role))
    return ModelRequest(messages=messages, sampling=correct.sampling.record(), seed=seed)


def _read(producer: str, completion: Completion) -> _Attempt:
    if completion.finish is Finish.FILTERED:
        return _Attempt(producer=producer, completion=completion, failure=WITHHELD)
    if completion.finish is not Finish.STOP:
        return _Attempt(producer=producer, completion=completion, failure="unfinished")
    reply = read_reply(completion.text)
    if reply is not None:
        return _Attempt(producer=producer, completion=completion, reply=reply)
    failure = REFUSED if is_refusal(completion.text) else "malformed_reply"
    return _Attempt(producer=producer, completion=completion, failure=failure)


def _trajectory(
    request: RewriteRequest, attempt: _Attempt, *, kind: str, scores: dict[str, int], cost: Cost
) -> Trajectory:
    old, reply = request.verdict.trajectory, attempt.reply
    return Trajectory(
        id=trajectory_id(request.id),
        request=request.id,
        prompt=old.prompt,
        sample=old.sample,
        model=attempt.producer,
        reasoning=reply.reasoning if reply else Text(""),
        answer=reply.answer if reply else attempt.completion.text,
        parse=Parse.CLOSED if reply else Parse.NO_TAGS,
        finish=attempt.completion.finish,
        parent=old.id,
        round=old.round,
        intervention=Intervention(
            kind=kind,
            strategy=request.strategy,
            producer=attempt.producer,
            attempt=request.attempt,
            variant=request.variant,
            failure=attempt.failure,
            scores=scores,
        ),
        num_prompt_tokens=cost.num_prompt_tokens,
        num_new_tokens=cost.num_new_tokens,
        seconds=cost.seconds,
        money=cost.money,
    )


def _cost(spent: Sequence[Completion]) -> Cost:
    return Cost(
        stage=STAGE,
        num_items=1,
        num_prompt_tokens=sum(completion.num_prompt_tokens for completion in spent),
        num_new_tokens=sum(completion.num_new_tokens for completion in spent),
        seconds=sum(completion.seconds for completion in spent),
        money=sum(completion.money for completion in spent),
    )
