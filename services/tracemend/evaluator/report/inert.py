"""Text that a model wrote, made inert for a page: characters that hide or reorder what is read become their names.

Used on every value that a template prints; markup is the template engine's to escape. Line feeds and tabs stay.
"""

from __future__ import annotations

import unicodedata

_SHOWN = frozenset("\n\t")
_HIDING_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, format characters (bidirectional marks, zero-width joiners, tags), surrogates, line separators."""
_HIDING_RANGES = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x2800, 0x2800),  # blank Braille pattern
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),  # half-width Hangul filler
    (0xE0000, 0xE0FFF),  # tags and further variation selectors
)
_MAX_MARKS = 4
"""Combining marks in a row that are drawn; a longer pile would cover the lines around it."""


def inert(text: str) -> str:
    """`text` with hiding characters as `⟨U+202E⟩`."""
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    num_marks = 0
    for character in text.replace("\r\n", "\n"):
        num_marks = num_marks + 1 if unicodedata.combining(character) else 0
        hides = _hides(character) or num_marks > _MAX_MARKS
        shown.append(f"⟨U+{ord(character):04X}⟩" if hides else character)
    return "".join(shown)


def _hides(character: str) -> bool:
    if character in _SHOWN:
        return False
    code = ord(character)
    return unicodedata.category(character) in _HIDING_CATEGORIES or any(a <= code <= b for a, b in _HIDING_RANGES)
