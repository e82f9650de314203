"""Keeps judged text apart from the words of the judge's prompt: hostile text stays data.

Called by every judge that asks a model. Two ways, by the format that the model wants. JSON judges get an object whose
strings hold no `<` and no bracketed control token at all (JSON escapes say them); formats of plain text get the text
with every control token broken by a space and every line that imitates the format's own lines quoted. Both hold for
all tokenizers: a control token is matched by its exact spelling, so a broken spelling is ordinary text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from tracemend.redaction import Text

# All families open their control tokens with one of these: <|…|>, <｜…｜>, <s>, <start_of_turn>, <<SYS>>, [INST].
# The wide and small forms are here because some tokenizers normalise them to `<` first.
_ANGLE = re.compile(r"([<＜﹤])(?=\S)")
_BRACKET = re.compile(r"([\[［])(?=/?[A-Z_]+[\]］])")
_JSON_ESCAPES = {"<": "\\u003c", "＜": "\\uff1c", "﹤": "\\ufe64", "[": "\\u005b", "［": "\\uff3b"}


def as_json(**fields: Text | str | Mapping[str, str] | None) -> str:
    """One JSON object on one line, without any character that a control token could begin with inside its strings."""
    line = json.dumps({name: _plain(value) for name, value in fields.items()}, ensure_ascii=False)
    for character, escape in _JSON_ESCAPES.items():
        line = line.replace(character, escape)
    return line


def defused(text: Text | str, *, marks: re.Pattern[str] | None = None) -> str:
    """`text` with control tokens broken, and with `> ` before lines whose beginning matches `marks`.

    All line and paragraph separators become newlines, so that no other separator can pass for one.
    """
    plain = _BRACKET.sub(r"\1 ", _ANGLE.sub(r"\1 ", _encodable(text)))
    lines = plain.splitlines()
    if marks is not None:
        lines = [f"> {line}" if marks.match(line) else line for line in lines]
    return "\n".join(lines)


def clipped(text: Text | str, max_chars: int) -> str:
    """Head and tail of `text` where it is longer than `max_chars`, with a mark between them."""
    plain = str.__str__(text)
    if len(plain) <= max_chars:
        return plain
    half = max_chars // 2
    return f"{plain[:half]}\n[… {len(plain) - 2 * half} characters left out …]\n{plain[-half:]}"


def _plain(value: Text | str | Mapping[str, str] | None) -> str | dict[str, str] | None:
    if isinstance(value, Mapping):
        return {key: _encodable(text) for key, text in value.items()}
    return None if value is None else _encodable(value)


def _encodable(text: Text | str) -> str:
    """The plain string, with `?` for lone surrogates: endpoints can send them, and no tokenizer takes them."""
    return str.__str__(text).encode("utf-8", "replace").decode()
