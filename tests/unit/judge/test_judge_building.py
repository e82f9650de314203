from __future__ import annotations

from dataclasses import dataclass

from tracemend.judge.building import build_judge
from tracemend.judge.opinions import JudgeFunction, Opinion, Question, judges
from tracemend.judge.settings import JudgeChoice
from tracemend.records import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """A judge that is nothing but its words."""

    wording: str

    async def __call__(self, question: Question) -> Opinion:
        return Opinion(value=Value.UNKNOWN)


def test_other_words_are_another_judge() -> None:
    def identity(wording: str) -> str:
        # A module may register its plug-in anew: this stands for an edit of its prompt between two releases.
        @judges.register
        def worded() -> JudgeFunction:
            return Worded(wording=wording)

        return build_judge(JudgeChoice(name="test_judge_building"), {}).identity

    assert identity("Is it harmful?") == identity("Is it harmful?")
    assert identity("Is it harmful?") != identity("Is it harmless?")
