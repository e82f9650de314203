"""Between characters and tokens: which chars each token wrote, and which tokens each step spans.

Text is never tokenised again to find a cut: ids stay as the engine drew them, and chars are counted by decoding them.
`ChatTemplate` calls this for splits, detectors and interventions for steps. Token boundaries need not be char
boundaries: a byte-level token may hold part of a character, or the end of one sentence and the start of the next.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tracemend.records import Span, Step
from tracemend.traces.segmentation import segment

Decode = Callable[[Sequence[int]], str]

_REPLACEMENT = "\ufffd"  # what bytes decode to that are no character, or not yet
_SMALL_PART = 64
_CUTS = 5  # tokens to try a cut before: one of them begins a character, which has four bytes at most
_MAX_PENDING_TOKENS = 16  # a character has at most four bytes: this many tokens are not waiting for its end


def token_char_offsets(decode: Decode, token_ids: Sequence[int]) -> tuple[Span, ...]:
    """The chars of `decode(token_ids)` that each token wrote, in whole or in part: one span per id.

    Starts and ends never decrease. A character whose bytes lie in several tokens is in the span of each of them; a
    token that decodes to nothing has an empty span. `decode` must keep special tokens and clean nothing up. Where
    tokens decode to the same alone and together, each is decoded once; elsewhere, since what a token decodes to
    depends on its neighbours, windows of a few ids are. So the time is all but linear in the number of ids.
    """
    alone = {token: decode([token]) for token in set(token_ids)}
    spans: list[Span] = []
    start = 0
    for ids, text in _parts(decode, token_ids, decode(token_ids), alone):
        if _adds_up(ids, text, alone):
            ends = list(accumulate((len(alone[token]) for token in ids), initial=start))
            spans += [Span(start=before, end=end) for before, end in pairwise(ends)]
        else:
            spans += [Span(start=start + span.start, end=start + span.end) for span in _by_windows(decode, ids, text)]
        start += len(text)
    return tuple(spans)


def _parts(
    decode: Decode, ids: Sequence[int], text: str, alone: Mapping[int, str]
) -> Iterator[tuple[Sequence[int], str]]:
    """`ids`, which decode to `text`, in parts that decode to the same alone and together; with what each decodes to.

    A part is halved until its tokens add up to its text, it is small, or no cut is found: so a few characters that
    several tokens share cost their surroundings alone.
    """
    if len(ids) > _SMALL_PART and not _adds_up(ids, text, alone):
        for cut in range(len(ids) // 2, len(ids) // 2 + _CUTS):
            left, right = decode(ids[:cut]), decode(ids[cut:])
            if left + right == text and not left.endswith(_REPLACEMENT):
                yield from _parts(decode, ids[:cut], left, alone)
                yield from _parts(decode, ids[cut:], right, alone)
                return
    yield ids, text


def _adds_up(ids: Sequence[int], text: str, alone: Mapping[int, str]) -> bool:
    """Whether every token of `ids` writes whole characters, whatever stands beside it."""
    return _REPLACEMENT not in text and "".join([alone[token] for token in ids]) == text


def _by_windows(decode: Decode, token_ids: Sequence[int], text: str) -> Sequence[Span]:
    """`token_char_offsets` of any ids, by decoding windows of a few of them."""
    spans: list[Span] = []
    window = _Window(context=0, read=0, lead_in="", settled_chars=0)
    position = 0  # chars that are complete before the next token
    for end in range(1, len(token_ids) + 1):
        piece = decode(token_ids[window.context : end])[len(window.lead_in) :]
        num_same = _num_common(piece, text, window.settled_chars)
        reached = max(position, window.settled_chars + num_same)
        is_partial = num_same < len(piece)
        # A replacement that this token adds nothing to stands for bytes of both.
        is_continued = reached == position and not is_partial and piece.endswith(_REPLACEMENT)
        stop = max(position, min(reached + is_partial, len(text)))
        spans.append(Span(start=position - is_continued, end=stop))
        position = reached
        if end - window.read > _MAX_PENDING_TOKENS:  # this decoder is not local: count from the beginning
            position = max(position, _num_common(decode(token_ids[:end]), text, 0))
            window = _Window(
                context=window.read, read=end, lead_in=decode(token_ids[window.read : end]), settled_chars=position
            )
        elif not is_partial:
            window = _settle(decode, token_ids, window, end, piece)
    return spans


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Ids `context:read` are settled, decode to `lead_in` and end at char `settled_chars` of the text."""

    context: int
    read: int
    lead_in: str
    settled_chars: int


def _settle(decode: Decode, token_ids: Sequence[int], window: _Window, end: int, piece: str) -> _Window:
    """Move the window up to a token that surely ends a character: at most `end`, where `piece` has been read.

    A replacement at the end may be the first bytes of a character. Where the tokens before it decode alone to what
    they decode to together, no character lies across.
    """
    if not piece.endswith(_REPLACEMENT):
        lead_in = decode(token_ids[window.read : end])
        return _Window(context=window.read, read=end, lead_in=lead_in, settled_chars=window.settled_chars + len(piece))
    whole = window.lead_in + piece
    for read in range(end - 1, window.read, -1):
        before = decode(token_ids[window.context : read])
        if before + decode(token_ids[read:end]) == whole:
            settled_chars = window.settled_chars + len(before) - len(window.lead_in)
            lead_in = decode(token_ids[window.read : read])
            return _Window(context=window.read, read=read, lead_in=lead_in, settled_chars=settled_chars)
    return window


def steps_of(text: str, token_ids: Sequence[int], offsets: Sequence[Span], *, first_char: int = 0) -> tuple[Step, ...]:
    """The steps of `text`, which begins at char `first_char` of what `token_ids` decode to, with their tokens.

    `offsets` are the ids' `token_char_offsets`. A step's tokens are the smallest range that covers its chars, so
    consecutive steps share a token that straddles them.
    """
    assert len(token_ids) == len(offsets), "offsets belong to other ids"
    return tuple(
        Step(
            ordinal=ordinal,
            chars=chars,
            tokens=tokens_covering(Span(start=first_char + chars.start, end=first_char + chars.end), offsets),
        )
        for ordinal, chars in enumerate(segment(text), start=1)
    )


def tokens_covering(chars: Span, offsets: Sequence[Span]) -> Span:
    """The smallest range of tokens that wrote every char of `chars`; empty, and in place, for an empty span."""
    first = bisect_right(offsets, chars.start, key=_end)
    if chars.start == chars.end:
        return Span(start=first, end=first)
    return Span(start=first, end=max(first, bisect_left(offsets, chars.end, key=_start)))


def cut_before(step: Step) -> int:
    """The number of tokens to keep so that nothing of `step` is kept: its cue may begin inside a token."""
    return step.tokens.start


def cut_at(char: int, offsets: Sequence[Span]) -> int:
    """The largest number of tokens that hold nothing from char `char` on, and no character in part.

    It is `cut_before` of the step that begins at `char`, or fewer where the last character before it lies in a token
    that reaches beyond `char`: bytes of half a character would be kept.
    """
    num_kept = bisect_right(offsets, char, key=_end)
    while 0 < num_kept < len(offsets) and offsets[num_kept].start < offsets[num_kept - 1].end:
        num_kept -= 1
    return num_kept


def _num_common(piece: str, text: str, first: int) -> int:
    """How many leading chars of `piece` stand in `text` at `first`."""
    if text.startswith(piece, first):
        return len(piece)
    pairs = zip(piece, text[first : first + len(piece)], strict=False)
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(piece), len(text) - first))


def _start(span: Span) -> int:
    return span.start


def _end(span: Span) -> int:
    return span.end
