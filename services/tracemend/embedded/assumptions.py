"""What an estimate takes for granted, each figure with its name and its default, and how `--assume` changes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What is not known before the run."""

    prompt_tokens: int = 120
    """Tokens of a prompt."""
    response_tokens: int = 1200
    """Tokens of a response of the target, never more than `max_new_tokens`."""
    teacher_tokens: int = 1000
    """Tokens that a strong model writes for one text."""
    judge_tokens: int = 40
    """Tokens that a judge model writes for one part."""
    parts_judged: int = 3
    """Parts of a trajectory that a judge model is asked about, never more than the judge's `parts`."""
    unsafe_share: float = 0.5
    """Share of samples of harmful prompts that are unsafe in the parts that count."""
    hard_share: float = 0.3
    """Share of harmful prompts whose samples are all unsafe."""
    success_share: float = 0.8
    """Share of corrected units that are judged safe within their attempts."""
    fork_share: float = 0.4
    """Share of forks that are accepted, in each round (methods.md §10 [P])."""
    refused_share: float = 0.2
    """Share of samples of benign prompts that the model of a first stage refuses (20 to 29 points in methods.md §14
    [P]). A prompt counts once any of its K samples refuses; taken as independent, they are expected to rather often."""
    attempts: float = 1.5
    """Texts per unit on average, never more than `attempts`."""
    tokens_per_s: float = 2000.0
    """Tokens that one GPU generates per second, over all requests."""
    trained_tokens_per_s: float = 3000.0
    """Tokens that one GPU trains on per second."""
    price_per_million: float = 0.0
    """Price of a million tokens at endpoints (`openai:` engines)."""


def assumptions_of(given: dict[str, str]) -> Assumptions:
    """The assumptions with those that were given as `name=value` in place of the defaults."""
    kinds: dict[str, type[int] | type[float]] = {
        field.name: int if isinstance(field.default, int) else float for field in fields(Assumptions)
    }
    unknown = sorted(given.keys() - kinds.keys())
    if unknown:
        raise SetupError(f"no assumption '{unknown[0]}'{did_you_mean(unknown[0], list(kinds))}")
    try:
        values: dict[str, Any] = {name: kinds[name](value) for name, value in given.items()}
    except ValueError as error:
        raise SetupError(f"--assume wants NAME=NUMBER: {error}") from None
    for name, value in values.items():
        is_share, is_rate = name.endswith("_share"), name.endswith("_per_s")
        if not (math.isfinite(value) and 0 <= value <= (1 if is_share else math.inf)) or (is_rate and not value):
            kind = "a share, from 0 to 1" if is_share else "a rate, above 0" if is_rate else "a number from 0 on"
            raise SetupError(f"--assume {name}={given[name]}: it is {kind}")
    return Assumptions(**values)
