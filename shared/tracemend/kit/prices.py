"""What engines cost: a price per model, from settings, and the money that a completion took by it.

Whoever opens a model for a program prices it (`runtime.telemetry_ports`), so that money enters the ledger with the
work that it paid for. The currency is whatever the prices are written in; nothing converts.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from tracemend.kit.ports import Completion
from tracemend.kit.settings import Section


class Price(Section):
    """What a model costs. Endpoints are paid by tokens, engines on machines of one's own by time."""

    per_million_prompt: float = Field(0.0, ge=0)
    """For a million prompt tokens that were computed."""
    per_million_cached: float | None = Field(None, ge=0)
    """For a million prompt tokens from a cache; unset for the price of computed ones."""
    per_million_new: float = Field(0.0, ge=0)
    """For a million tokens written."""
    per_engine_hour: float = Field(0.0, ge=0)
    """For an hour of engine time."""

    def of(
        self, *, num_prompt_tokens: int, num_cached_tokens: int = 0, num_new_tokens: int = 0, seconds: float = 0.0
    ) -> float:
        """The money for an amount of work; cached tokens are part of the prompt's."""
        cached = self.per_million_prompt if self.per_million_cached is None else self.per_million_cached
        tokens = (num_prompt_tokens - num_cached_tokens) * self.per_million_prompt
        tokens += num_cached_tokens * cached + num_new_tokens * self.per_million_new
        return tokens / 1e6 + seconds * self.per_engine_hour / 3600

    def of_completion(self, completion: Completion) -> float:
        """The money for `completion`."""
        return self.of(
            num_prompt_tokens=completion.num_prompt_tokens,
            num_cached_tokens=completion.num_cached_tokens,
            num_new_tokens=completion.num_new_tokens,
            seconds=completion.seconds,
        )


def price_of(prices: Mapping[str, Price], name: str) -> Price | None:
    """The price of the model called `name` in run files (`target` for the target); `default` stands for all others."""
    return prices.get(name, prices.get("default"))
