"""A model folder's tokenizer as engines use it: messages to prompt ids, response ids to text, end tokens.

Called by the engines that load weights themselves. Two invariants: text inside a message never becomes a control
token, whatever it says, and reasoning tags stay in the decoded text even where a tokenizer calls them special.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tracemend.kit.errors import Reject
from tracemend.traces.loading import open_tokenizer

REASONING_TAGS = frozenset({"<think>", "</think>", "<reasoning>", "</reasoning>", "<answer>", "</answer>"})
_PRIVATE_USE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))


class Tokens:
    """Tokenizer, chat template and end tokens of one model folder. Not thread-safe, as tokenizers are not."""

    def __init__(self, folder: Path) -> None:
        """Load from local files alone; raises `SetupError` where the tokenizer cannot be loaded."""
        self._tokenizer = open_tokenizer(folder)
        self.end_ids = _end_ids(folder, self._tokenizer.eos_token_id)
        added = {content: token.special for token, content in _added(self._tokenizer)}
        self._controls = _pattern(added)
        self._assistant_controls = _pattern(name for name in added if name not in REASONING_TAGS)
        self._hidden = frozenset(
            self._tokenizer.convert_tokens_to_ids(name)
            for name, special in added.items()
            if special and name not in REASONING_TAGS
        )

    @property
    def pad_id(self) -> int:
        """An id to fill short rows with; never attended."""
        return int(next((i for i in (self._tokenizer.pad_token_id, *sorted(self.end_ids)) if i is not None), 0))

    def render(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Prompt ids of a conversation by the model's own template, with the generation prompt.

        Control tokens that stand in a message's text are encoded as the characters that they are made of.
        """
        if not self._tokenizer.chat_template:
            raise Reject("no_chat_template", "the model's tokenizer has no chat template: send prompt_tokens")
        plain = [{name: str.__str__(value) for name, value in message.items()} for message in messages]
        words = "".join(value for message in plain for value in message.values())
        if not is_text(words):
            raise Reject("bad_unicode", "half a surrogate pair")
        mark = _unused_mark(words)
        for message in plain:
            controls = self._assistant_controls if message.get("role") == "assistant" else self._controls
            message["content"] = controls.sub(lambda m: m[0][0] + mark + m[0][1:], message.get("content", ""))
        text = self._apply_template(plain)
        encode = self._tokenizer.encode
        return tuple(i for piece in text.split(mark) for i in encode(piece, add_special_tokens=False))

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text of response ids, without control tokens but with reasoning tags."""
        shown = [i for i in token_ids if i not in self._hidden and i not in self.end_ids]
        decoded: str = self._tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return decoded

    def _apply_template(self, messages: list[dict[str, str]]) -> str:
        from jinja2.exceptions import TemplateError

        try:
            rendered: str = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            # A template's own complaint (roles out of order) quotes no message; other template errors might.
            raise Reject("chat_template_refused", type(error).__name__) from None
        return rendered


def _end_ids(folder: Path, eos: int | None) -> frozenset[int]:
    """End tokens: those of generation_config.json and config.json, and the tokenizer's own."""
    ends = {eos} if eos is not None else set()
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        stated = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        ends |= set(stated) if isinstance(stated, list) else {stated} if isinstance(stated, int) else set()
    return frozenset(ends)


def _added(tokenizer: Any) -> list[tuple[Any, str]]:
    return [(token, token.content) for token in tokenizer.added_tokens_decoder.values() if len(token.content) > 1]


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def is_text(words: str) -> bool:
    """Whether `words` can be encoded; half a surrogate pair cannot."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unused_mark(text: str) -> str:
    """A character that stands nowhere in `text`: where pieces are to be encoded apart."""
    held = set(text)
    mark = next((mark for mark in map(chr, chain(*_PRIVATE_USE)) if mark not in held), None)
    if mark is None:
        raise Reject("bad_unicode", "every private character there is")
    return mark
