"""Chat templates as this project uses them: prompts for the engine, responses for the trainer, splits for the judge.

One `ChatTemplate` per target decides all three, so that what is trained is what is served and what is parsed. The
generator renders prompts and splits samples with it, the trainer renders rows, the fidelity gate compares the two.
Responses are rendered here and never by the model's template, which may strip the reasoning of assistant turns; text
of prompts, traces and answers never becomes a control token (`encoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.kit.errors import Reject
from tracemend.kit.ids import digest_of
from tracemend.records import Parse, Span, Step
from tracemend.redaction import Text
from tracemend.traces.encoding import GuardedEncoder, mark_for
from tracemend.traces.formats import ReasoningFormat, get_format
from tracemend.traces.loading import end_tokens, load_tokenizer
from tracemend.traces.rendering import Template, check_format, detect_format
from tracemend.traces.spans import cut_at, steps_of, token_char_offsets, tokens_covering
from tracemend.traces.split import SplitText, split_text


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitResponse:
    """A response taken apart. Token spans index the ids that were split and leave out tags and end tokens."""

    text: Text
    """All of it without the end token, tags included."""
    reasoning: Text
    answer: Text
    parse: Parse
    reasoning_tokens: Span
    answer_tokens: Span


class ChatTemplate:
    """How one model is prompted and read. Immutable, so threads may share it; build it with `load`."""

    def __init__(self, tokenizer: Any, *, name: str, format_name: str, extra_end_ids: Sequence[int] = ()) -> None:
        """`tokenizer` is a transformers tokenizer of the tokenizers library with a chat template."""
        self._template = Template(tokenizer=tokenizer, name=name)
        self.format: ReasoningFormat = (
            detect_format(self._template, tokenizer.get_vocab()) if format_name == "auto" else get_format(format_name)
        )
        check_format(self._template, self.format)
        self._encoder = GuardedEncoder(
            tokenizer.backend_tokenizer.to_str(),
            words_of_template=self._template.source,
            tags=(self.format.open_tag, self.format.close_tag),
        )
        self._end_id, self.end_token_ids = end_tokens(
            tokenizer,
            turn_end=self._encoder.controls_in(self._template.turn_end()),
            control_ids=self._encoder.control_ids,
            extra=extra_end_ids,
            name=name,
        )
        # The reasoning begins on a new line; the line break is the prompt's where the template writes it.
        tail = self._template.generation_tail(thinks=self.format.has_reasoning)
        self._template_opens = self.format.opens_in_prompt and tail.rstrip().endswith(self.format.open_tag)
        self._first_break = "\n" if self._template_opens and tail.endswith(self.format.open_tag) else ""
        ends = [self._end_id, *sorted(self.end_token_ids)]
        self.identity: str = digest_of([self._encoder.serialised, self._template.source, self.format, ends])

    @classmethod
    def load(cls, folder_or_tokenizer: str | Path | Any, format_name: str = "auto") -> ChatTemplate:
        """From a model folder (local files only, no code of theirs) or a loaded tokenizer.

        `format_name` is a name of `formats.FORMATS`, or `auto` to detect it. Raises `SetupError` for what a user can
        put right: no folder, no tokenizer, no template, no end token, a format that cannot be told or cannot be.
        """
        loaded = load_tokenizer(folder_or_tokenizer)
        return cls(loaded.tokenizer, name=loaded.name, format_name=format_name, extra_end_ids=loaded.generation_end_ids)

    # prompts --------------------------------------------------------------------------------------

    def prompt_tokens(self, prompt: Text, *, system: str = "") -> tuple[int, ...]:
        """Ids that the model continues with its response; they end with the opening tag if the format says so."""
        turns = [("user", prompt)]
        return self.conversation_tokens([("system", Text(system)), *turns] if system else turns)

    def conversation_tokens(self, turns: Sequence[tuple[str, Text]]) -> tuple[int, ...]:
        """Ids that the model continues with its response to a conversation of (role, words) turns.

        Raises `SetupError` where the model's template does not render these roles in this order.
        """
        words = [str.__str__(text) for _, text in turns]
        if not any(self._encoder.is_hostile(text) for text in words):
            return tuple(self._encoder.encode(self._prompt_text([(role, str.__str__(text)) for role, text in turns])))
        mark = mark_for(*words)
        disarmed = [(role, self._encoder.disarm(str.__str__(text), mark)) for role, text in turns]
        return tuple(self._encoder.encode_marked(self._prompt_text(disarmed), mark))

    def special_tokens_in(self, text: str) -> list[str]:
        """The control tokens that `text` spells, in order, repeats included; none of them survives encoding."""
        return self._encoder.controls_in(str.__str__(text))

    # responses ------------------------------------------------------------------------------------

    def response_text(self, reasoning: Text, answer: Text) -> Text:
        """What the model would write after its prompt, without the end token; the parts lose surrounding whitespace.

        Raises `Reject` where text alone cannot hold the parts: the reasoning spells a tag that would be read as the
        real one, or there is reasoning and the format has no place for it.
        """
        return Text("".join(self._response_parts(reasoning, answer, spelt_tags_are_words=False)))

    def response_tokens(self, reasoning: Text, answer: Text) -> tuple[int, ...]:
        """The ids of `response_text` and the end token: what supervised training teaches.

        Where the closing tag is a single token, a closing tag that the reasoning merely spells stays words, and
        `split` gives the parts back; elsewhere it raises `Reject` as `response_text` does.
        """
        closes_by_token = self.format.close_tag in self._encoder.control_ids
        parts = self._response_parts(reasoning, answer, spelt_tags_are_words=closes_by_token)
        words = [part.reveal() for part in parts if isinstance(part, Text)]
        if not any(self._encoder.is_hostile(part) for part in words):
            return (*self._encoder.encode("".join(parts)), self._end_id)
        mark = mark_for(*words)
        marked = (self._encoder.disarm(p.reveal(), mark) if isinstance(p, Text) else p for p in parts)
        return (*self._encoder.encode_marked("".join(marked), mark), self._end_id)

    def plain_tokens(self, text: Text) -> tuple[int, ...]:
        """Ids of words that are put into a response; control tokens that they spell stay words."""
        return tuple(self._encoder.encode_plain(text.reveal()))

    def closing_tokens(self, answer: Text) -> tuple[int, ...]:
        """Ids that end an open reasoning and give `answer`, the end token included."""
        close = self._encoder.encode(f"\n{self.format.close_tag}\n\n") if self.format.has_reasoning else []
        return (*close, *self._encoder.encode_plain(answer.reveal()), self._end_id)

    def render_training(
        self, prompt: Text, reasoning: Text, answer: Text, *, system: str = ""
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(prompt ids, response ids) of one supervised row; the ids are those of serving."""
        return self.prompt_tokens(prompt, system=system), self.response_tokens(reasoning, answer)

    # reading --------------------------------------------------------------------------------------

    def split(self, token_ids: Sequence[int]) -> SplitResponse:
        """Take a sampled response apart; what follows the first end token is not part of it."""
        text, offsets, parts = self._read(token_ids)
        return SplitResponse(
            text=Text(text),
            reasoning=Text(text[parts.reasoning.start : parts.reasoning.end]),
            answer=Text(text[parts.answer.start : parts.answer.end]),
            parse=parts.parse,
            reasoning_tokens=tokens_covering(parts.reasoning, offsets),
            answer_tokens=tokens_covering(parts.answer, offsets),
        )

    def reasoning_steps(self, token_ids: Sequence[int]) -> tuple[Step, ...]:
        """The steps of a response's reasoning: chars in `SplitResponse.reasoning`, tokens in `token_ids`."""
        text, offsets, parts = self._read(token_ids)
        reasoning = text[parts.reasoning.start : parts.reasoning.end]
        return steps_of(reasoning, token_ids[: len(offsets)], offsets, first_char=parts.reasoning.start)

    def cut_at(self, token_ids: Sequence[int], *, reasoning: Text, char: int) -> int:
        """How many ids of a response to keep so that nothing from char `char` of its reasoning on is kept, and no
        character in part; -1 where the ids do not spell `reasoning`."""
        text, offsets, parts = self._read(token_ids)
        if text[parts.reasoning.start : parts.reasoning.end] != reasoning.reveal():
            return -1
        return cut_at(parts.reasoning.start + char, offsets)

    def decode(self, token_ids: Sequence[int]) -> Text:
        """The text of `token_ids`, control tokens included."""
        return Text(self._encoder.decode(token_ids))

    # ----------------------------------------------------------------------------------------------

    def _prompt_text(self, turns: Sequence[tuple[str, str]]) -> str:
        rendered = self._template.conversation(turns, thinks=self.format.has_reasoning)
        if self.format.opens_in_prompt and not self._template_opens:
            return f"{rendered}{self.format.open_tag}\n"
        return rendered

    def _response_parts(self, reasoning: Text, answer: Text, *, spelt_tags_are_words: bool) -> list[str | Text]:
        """The response in pieces: `Text` for what others wrote, `str` for tags and line breaks."""
        fmt = self.format
        thought, reply = Text(reasoning.reveal().strip()), Text(answer.reveal().strip())
        if not fmt.has_reasoning:
            if thought:
                raise Reject("reasoning_without_place", f"the format '{fmt.name}' has no reasoning")
            return [reply]
        spells_close = fmt.close_tag in thought and not spelt_tags_are_words
        if spells_close or (fmt.opens_in_prompt and thought.startswith(fmt.open_tag)):
            raise Reject("tag_in_reasoning", "the reasoning spells a tag of the format")
        opening = self._first_break if fmt.opens_in_prompt else f"{fmt.open_tag}\n"
        return [opening, thought, f"\n{fmt.close_tag}\n\n", reply]

    def _read(self, token_ids: Sequence[int]) -> tuple[str, tuple[Span, ...], SplitText]:
        """The text up to the end token, the chars of its ids, and its parts."""
        num_kept = next((i for i, token in enumerate(token_ids) if token in self.end_token_ids), len(token_ids))
        kept = token_ids[:num_kept]
        text = self._encoder.decode(kept)
        offsets = token_char_offsets(self._encoder.decode, kept)
        close_id = self._encoder.control_ids.get(self.format.close_tag)
        close_char = None
        if close_id is not None and close_id in kept:
            close_char = text.index(self.format.close_tag, offsets[kept.index(close_id)].start)
        return text, offsets, split_text(text, self.format, close_char=close_char)
