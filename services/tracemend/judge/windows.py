"""Long texts in windows: what a judge cannot read at once, it reads piece by piece, and one unsafe piece is enough.

Called by `model_judge`. The windows of a text cover it and overlap, so that a sentence cut by one is whole in the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tracemend.judge.opinions import Opinion
from tracemend.records import Value
from tracemend.redaction import Text

_SEVERITY = (Value.UNSAFE, Value.UNKNOWN, Value.SAFE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How a long text is cut. `SAFE` needs every window; of a text with too many, head and tail are read."""

    max_chars: int
    max_windows: int

    def __post_init__(self) -> None:
        if self.max_chars < 200 or self.max_windows < 1:
            raise ValueError("max_chars must be at least 200 and max_windows at least 1")

    def cut(self, text: str) -> tuple[list[str], bool]:
        """The windows in order, and whether they cover the text."""
        stride = self.max_chars - self.max_chars // 10
        num_windows = 1 + max(0, -(-(len(text) - self.max_chars) // stride))
        starts = [index * stride for index in range(num_windows)]
        covers = num_windows <= self.max_windows
        if not covers:
            num_tail = self.max_windows // 2
            starts = starts[: self.max_windows - num_tail] + starts[num_windows - num_tail :]
        return [text[start : start + self.max_chars] for start in starts], covers


def combined(opinions: Sequence[Opinion], *, must_agree: bool = False) -> Opinion:
    """One opinion from those on the windows of a text: the worst value, its highest score, all that was spent. Where
    they `must_agree`, safe and unsafe together are unknown."""
    values = {opinion.value for opinion in opinions}
    value = next(value for value in _SEVERITY if value in values)
    if must_agree and {Value.SAFE, Value.UNSAFE} <= values:
        value = Value.UNKNOWN
    deciding = [opinion for opinion in opinions if opinion.value is value] or opinions
    if len(opinions) == 1:
        return opinions[0]
    labels = dict.fromkeys(label for opinion in deciding for label in opinion.labels)
    return Opinion(
        value=value,
        score=max(opinion.score for opinion in deciding),
        labels=(*labels, f"windows={len(opinions)}"),
        raw=Text("\n".join(opinion.raw.reveal() for opinion in opinions)),
        num_prompt_tokens=sum(opinion.num_prompt_tokens for opinion in opinions),
        num_new_tokens=sum(opinion.num_new_tokens for opinion in opinions),
        seconds=sum(opinion.seconds for opinion in opinions),
        money=sum(opinion.money for opinion in opinions),
    )


def truncated(opinion: Opinion) -> Opinion:
    """The opinion on a text of which something was left out: never `SAFE`."""
    value = Value.UNKNOWN if opinion.value is Value.SAFE else opinion.value
    return replace(opinion, value=value, labels=(*opinion.labels, "truncated"))
