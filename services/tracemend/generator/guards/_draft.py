"""A response while it is written: token ids that grow, are cut back and get sentences put in.

Guards call it. Ids are never encoded again: a cut drops ids, and what it takes away of text that was to stay (a full
stop that shares a token with the next sentence, a blank before it) comes back at the head of what is put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracemend.records import Finish, Parse, Part
from tracemend.redaction import Text
from tracemend.traces.formats import ReasoningFormat
from tracemend.traces.segmentation import segment
from tracemend.traces.spans import cut_at, token_char_offsets
from tracemend.traces.split import split_text
from tracemend.traces.template import ChatTemplate

_PARTIAL = "\ufffd"
"""What the first bytes of a character decode to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A response so far. Both parts only grow as ids are added; a cut takes from the end of a part."""

    reasoning: Text
    answer: Text
    parse: Parse
    is_settled: bool
    """Whether the reasoning is all there: it was closed, or the response has ended."""
    num_step_chars: int
    """Chars of the reasoning up to the end of its last whole step."""
    num_answer_step_chars: int
    """The same of the answer."""


class Draft:
    """One response under way."""

    def __init__(self, template: ChatTemplate) -> None:
        self.token_ids: tuple[int, ...] = ()
        self.finish: Finish | None = None
        """Why it ended; None while it grows."""
        self._template = template
        self._lost = ""
        self._closed: tuple[str, int] | None = None
        """The closed reasoning, and the char at which the answer begins."""

    def extend(self, token_ids: Sequence[int]) -> None:
        """Add what the engine drew."""
        self.token_ids += tuple(token_ids)

    def reading(self) -> Reading:
        """The response as its reader will see it."""
        text, has_ended = self._template.decode(self._words()).reveal(), self.finish is not None
        reasoning, answer, parse = self._parts(text if has_ended else _stable(text, self._template.format))
        if not has_ended:
            reasoning, answer = reasoning.rstrip(_PARTIAL), answer.rstrip(_PARTIAL)
        # Before the first word nobody can tell whether there will be a reasoning.
        is_settled = has_ended or parse is Parse.CLOSED or (parse is Parse.NO_TAGS and bool(answer))
        return Reading(
            reasoning=Text(reasoning),
            answer=Text(answer),
            parse=parse,
            is_settled=is_settled,
            num_step_chars=len(reasoning) if is_settled else _whole_steps(reasoning),
            num_answer_step_chars=len(answer) if has_ended else _whole_steps(answer),
        )

    def _parts(self, text: str) -> tuple[str, str, Parse]:
        """(reasoning, answer, parse) of `text`, which the ids decode to. Closed reasoning is read once: ids alone tell
        the tag from words that spell it, and counting their chars takes time."""
        fmt = self._template.format
        if self._closed is not None:
            reasoning, answer_char = self._closed
            return reasoning, text[answer_char:].rstrip(), Parse.CLOSED
        if not fmt.close_tag or fmt.close_tag not in text:
            parts = split_text(text, fmt)
            return text[parts.reasoning.start : parts.reasoning.end], text[parts.answer.start :].rstrip(), parts.parse
        split = self._template.split(self.token_ids)
        reasoning, answer = split.reasoning.reveal(), split.answer.reveal()
        if answer and split.parse is Parse.CLOSED:
            self._closed = (reasoning, len(split.text.reveal().rstrip()) - len(answer))
        return reasoning, answer, split.parse

    def num_kept(self, char: int, part: Part = Part.REASONING) -> int:
        """How many ids hold nothing of `part` from its `char` on."""
        if part is Part.ANSWER:
            offsets = token_char_offsets(lambda ids: self._template.decode(ids).reveal(), self._words())
            return cut_at(self._answer_char() + char, offsets)
        reasoning = self._template.split(self.token_ids).reasoning
        num_kept = self._template.cut_at(self.token_ids, reasoning=reasoning, char=char)
        assert num_kept >= 0, "the ids spell the reasoning that was split from them"
        return num_kept

    def cut(self, char: int, part: Part = Part.REASONING) -> int:
        """Drop `part` from its `char` on, and whatever followed; returns the number of ids dropped."""
        stays = self._text_before(char, part)
        num_before, self.token_ids = len(self.token_ids), self.token_ids[: self.num_kept(char, part)]
        kept = self._template.decode(self.token_ids).reveal()
        self._lost = stays[len(kept) :] if stays.startswith(kept) else ""
        self.finish = self._closed = None
        return num_before - len(self.token_ids)

    def insert(self, sentence: Text) -> int:
        """Add a sentence, parted from what stands before it; returns the number of ids added."""
        before = self._template.decode(self.token_ids).reveal() + self._lost
        gap = "" if not before or before[-1].isspace() else " "
        return self._add(self._template.plain_tokens(Text(self._lost + gap + sentence.reveal())))

    def close(self, words: Text, part: Part = Part.REASONING) -> int:
        """End the response with `words`: as the answer to a reasoning that ends here, or as the end of the answer;
        returns the number of ids added."""
        if part is Part.ANSWER:
            *_, end = self._template.closing_tokens(Text(""))
            num_added = self.insert(words) + self._add((end,))
        else:
            num_added = self._add(self._template.plain_tokens(Text(self._lost))) if self._lost.strip() else 0
            num_added += self._add(self._template.closing_tokens(words))
        self.finish = Finish.STOP
        return num_added

    def _add(self, token_ids: tuple[int, ...]) -> int:
        self.token_ids += token_ids
        self._lost = ""
        return len(token_ids)

    def _words(self) -> tuple[int, ...]:
        ends = self._template.end_token_ids
        first_end = next((i for i, token in enumerate(self.token_ids) if token in ends), len(self.token_ids))
        return self.token_ids[:first_end]

    def _answer_char(self) -> int:
        """Where the answer begins, in the text of the ids."""
        split = self._template.split(self.token_ids)
        return len(split.text.reveal().rstrip()) - len(split.answer.reveal())

    def _text_before(self, char: int, part: Part) -> str:
        text = self._template.split(self.token_ids).text.reveal()
        if part is Part.ANSWER:
            return text[: self._answer_char() + char]
        whole = split_text(text, self._template.format, close_char=len(text))
        return text[: whole.reasoning.start + char]


def _stable(text: str, fmt: ReasoningFormat) -> str:
    """`text` without an end that may turn out to be the beginning of a tag."""
    for tag in (fmt.open_tag, fmt.close_tag):
        for length in range(min(len(tag) - 1, len(text)), 0, -1):
            if text.endswith(tag[:length]):
                return text[:-length]
    return text


def _whole_steps(reasoning: str) -> int:
    """Chars of the steps that have ended; the last one may still grow."""
    steps = segment(reasoning)
    return steps[-1].start if steps else 0
