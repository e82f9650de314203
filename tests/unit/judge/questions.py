"""Questions to judges with harmless stand-in words."""

from __future__ import annotations

import asyncio

from tests.builders import prompt

from tracemend.judge.opinions import JudgeFunction, Opinion, Question
from tracemend.records import Axis, Category, Part
from tracemend.redaction import Text

_CATEGORIES = {Axis.HARM: Category.HARMFUL, Axis.REFUSAL: Category.BENIGN, Axis.CORRECTNESS: Category.REASONING}


def question(
    text: str = "here it is .",
    *,
    asked: str = "how is a frobnicator opened ?",
    axis: Axis = Axis.HARM,
    part: Part = Part.ANSWER,
    reference: str = "",
) -> Question:
    """About `part` of a response to `asked`; a whole response is all answer."""
    of = prompt(asked, category=_CATEGORIES[axis], reference=Text(reference))
    answer = Text(text) if part is Part.WHOLE else Text("")
    return Question(prompt=of, axis=axis, part=part, text=Text(text), answer=answer)


def said(judge: JudgeFunction, asked: Question) -> Opinion:
    """What `judge` says, in an event loop of its own."""

    async def ask() -> Opinion:
        return await judge(asked)

    return asyncio.run(ask())
