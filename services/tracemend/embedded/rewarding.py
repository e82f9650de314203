"""The reward of a training that samples: the run's judge of harm, asked from the training's thread.

`training` offers it to the job. r = ½(1{reasoning safe} + 1{answer safe}) (methods.md §13 [X]: the paper prints a
difference, which would punish safe answers). A part that is unknown, unfinished ones included, counts as not safe. The
run's detector is not asked: it would be paid for once per sample and change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from tracemend.judge.concurrently import all_of
from tracemend.judge.service import JudgeService
from tracemend.judge.settings import JudgeSettings
from tracemend.kit.errors import Retry
from tracemend.kit.ids import digest_of, make_id
from tracemend.kit.ports import TextModel
from tracemend.records import Axis, Part, Trajectory, Value
from tracemend.trainer.reward import Sampled

_FORMULA = "mean of safe reasoning and safe answer"
_MAX_ATTEMPTS = 8
_REWARDED = (Part.REASONING, Part.ANSWER)


def reward_identity(judge_of_harm: str) -> str:
    """The identity of the reward that the judge of harm with this identity gives."""
    return digest_of([_FORMULA, judge_of_harm])


class JudgeReward:
    """Implements `trainer.reward.Reward` over the judges of a run."""

    def __init__(
        self, settings: JudgeSettings, models: Mapping[str, TextModel], *, loop: asyncio.AbstractEventLoop
    ) -> None:
        """`loop` is where `models` live; the training runs in another thread."""
        self._judge = JudgeService.build(settings.model_copy(update={"detector": None, "verifier": None}), models)
        self._loop = loop
        self.identity = reward_identity(self._judge.identity[Axis.HARM.value])

    def __call__(self, responses: Sequence[Sampled]) -> Sequence[float]:
        return asyncio.run_coroutine_threadsafe(self._scores(responses), self._loop).result()

    async def _scores(self, responses: Sequence[Sampled]) -> list[float]:
        return await all_of(self._score(response) for response in responses)

    async def _score(self, response: Sampled) -> float:
        trajectory = Trajectory(
            id=make_id("rollout", response.prompt.id, response.token_ids),
            request="",
            prompt=response.prompt,
            sample=0,
            model="",
            reasoning=response.reasoning,
            answer=response.answer,
            parse=response.parse,
            finish=response.finish,
            token_ids=response.token_ids,
        )
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                verdict = await self._judge.grade(trajectory)
            except Retry as error:
                if attempt == _MAX_ATTEMPTS:
                    raise
                await asyncio.sleep(error.after_s)
            else:
                return sum(verdict.of(part).value is Value.SAFE for part in _REWARDED) / len(_REWARDED)
        raise AssertionError("the last attempt returns or raises")
