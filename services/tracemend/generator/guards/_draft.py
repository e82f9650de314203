"""A response while it is written: token ids that grow, are cut back and get sentences put in.

Guards call it. Ids are never encoded again: a cut drops ids, and what it takes away of text that was to stay (a full
stop that shares a token with the next sentence, a blank before it) comes back at the head of what is put in.

Where the model writes the opening tag itself, words without one are an answer or a reasoning whose closing tag is still
to come. Nobody can tell, so they are neither until a closing tag, the end or the draft's patience decides; what was
decided stays, whatever tag follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracemend.records import Finish, Parse, Part, Span
from tracemend.redaction import Text
from tracemend.traces.formats import ReasoningFormat
from tracemend.traces.segmentation import segment
from tracemend.traces.spans import cut_at, token_char_offsets, tokens_covering
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
    """Whether the reasoning is all there: it was closed, or the response has ended, or there is none."""
    num_step_chars: int
    """Chars of the reasoning up to the end of its last whole step."""
    num_answer_step_chars: int
    """The same of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settled:
    """The parts as they were decided upon; words that follow belong to the answer."""

    reasoning: str
    answer_char: int
    """Where the answer begins, in the text of the ids."""
    parse: Parse


class Draft:
    """One response under way."""

    def __init__(self, template: ChatTemplate, *, untagged_tokens: int = 0) -> None:
        """`untagged_tokens`: how long a response without any tag may yet turn out to be reasoning."""
        self.token_ids: tuple[int, ...] = ()
        self.finish: Finish | None = None
        """Why it ended; None while it grows."""
        self._template = template
        self._untagged_tokens = untagged_tokens
        self._lost = ""
        self._settled: _Settled | None = None
        self._is_reasoning = False
        """Whether words without tags are known to be reasoning: they were, before the closing tag was cut off."""

    def extend(self, token_ids: Sequence[int]) -> None:
        """Add what the engine drew."""
        self.token_ids += tuple(token_ids)

    def reading(self) -> Reading:
        """The response as its reader will see it."""
        text, has_ended = self._template.decode(self._words()).reveal(), self.finish is not None
        parts = self._parts(text if has_ended else _stable(text, self._template.format))
        reasoning, answer = (part if has_ended else part.rstrip(_PARTIAL) for part in parts[:2])
        is_settled = has_ended or parts[2] is Parse.CLOSED or self._settled is not None
        if not is_settled:
            answer = ""  # or a reasoning: it is neither yet
        return Reading(
            reasoning=Text(reasoning),
            answer=Text(answer),
            parse=parts[2],
            is_settled=is_settled,
            num_step_chars=len(reasoning) if is_settled else _whole_steps(reasoning),
            num_answer_step_chars=len(answer) if has_ended else _whole_steps(answer),
        )

    def _parts(self, text: str) -> tuple[str, str, Parse]:
        """(reasoning, answer, parse) of `text`, which the ids decode to. They are settled once: ids alone tell the tag
        from words that spell it, counting their chars takes time, and what was shown cannot be taken back."""
        fmt = self._template.format
        if (settled := self._settled) is not None:
            return settled.reasoning, text[settled.answer_char :].rstrip(), settled.parse
        if fmt.close_tag and fmt.close_tag in text:
            split = self._template.split(self.token_ids)
            reasoning, answer, parse = split.reasoning.reveal(), split.answer.reveal(), split.parse
            start = len(split.text.reveal().rstrip()) - len(answer)
        else:
            spans = split_text(text, fmt, close_char=len(text) if self._is_reasoning else None)
            parse = Parse.UNCLOSED if self._is_reasoning else spans.parse
            reasoning, start = text[spans.reasoning.start : spans.reasoning.end], spans.answer.start
            answer = text[start : spans.answer.end]
        if answer and (parse is Parse.CLOSED or (parse is Parse.NO_TAGS and self._is_patience_over(text))):
            self._settled = _Settled(reasoning=reasoning, answer_char=start, parse=parse)
        return reasoning, answer, parse

    def _is_patience_over(self, untagged: str) -> bool:
        """Whether `untagged`, which no closing tag has ended, is to be read as an answer."""
        fmt = self._template.format
        if not fmt.has_reasoning or self.finish is not None:
            return True
        return len(self.token_ids) >= self._untagged_tokens and fmt.open_tag not in untagged

    def num_reasoning_tokens(self) -> int:
        """How many ids the reasoning takes."""
        start, end = self._start(Part.REASONING), len(self.reading().reasoning)
        tokens = tokens_covering(Span(start=start, end=start + end), self._offsets())
        return tokens.end - tokens.start

    def num_kept(self, char: int, part: Part = Part.REASONING) -> int:
        """How many ids hold nothing of `part` from its `char` on."""
        return cut_at(self._start(part) + char, self._offsets())

    def cut(self, char: int, part: Part = Part.REASONING) -> int:
        """Drop `part` from its `char` on, and whatever followed; returns the number of ids dropped."""
        stays = self._template.decode(self._words()).reveal()[: self._start(part) + char]
        num_before, self.token_ids = len(self.token_ids), self.token_ids[: self.num_kept(char, part)]
        kept = self._template.decode(self.token_ids).reveal()
        self._lost = stays[len(kept) :] if stays.startswith(kept) else ""
        self.finish = None
        self._is_reasoning = self._is_reasoning or part is Part.REASONING
        if self._settled is not None and self._settled.parse is Parse.CLOSED:
            self._settled = None  # the closing tag may be gone
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

    def _offsets(self) -> tuple[Span, ...]:
        return token_char_offsets(lambda ids: self._template.decode(ids).reveal(), self._words())

    def _start(self, part: Part) -> int:
        """Where `part` begins, in the text of the ids."""
        text = self._template.decode(self._words()).reveal()
        if part is Part.REASONING:
            return split_text(text, self._template.format, close_char=len(text)).reasoning.start
        if self._settled is not None:
            return self._settled.answer_char
        return len(text.rstrip()) - len(self._template.split(self.token_ids).answer.reveal())


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
