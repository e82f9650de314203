"""Fakes at the ports, for tests that are about what stands behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracemend.kit.ports import Capabilities, Completion, ModelRequest
from tracemend.records import Finish
from tracemend.redaction import Text


class FakeModel:
    """A `TextModel` that answers from a list (the last entry again and again) or by a function; it keeps what it was
    asked. An entry is a reply, a whole completion, or an error to raise."""

    capabilities = Capabilities(seeds=True)

    def __init__(
        self,
        *answers: str | Completion | Exception,
        by: Callable[[ModelRequest], str | Completion] | None = None,
        identity: str = "fake",
    ) -> None:
        self.identity = identity
        self.requests: list[ModelRequest] = []
        self._answers: Sequence[str | Completion | Exception] = answers
        self._by = by

    async def complete(self, request: ModelRequest) -> Completion:
        self.requests.append(request)
        answer = self._by(request) if self._by else self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Completion) else completion(answer)

    async def aclose(self) -> None:
        return None


def completion(text: str, *, finish: Finish = Finish.STOP) -> Completion:
    """A completion that cost something."""
    return Completion(text=Text(text), finish=finish, num_prompt_tokens=10, num_new_tokens=5, seconds=0.5, money=0.01)
