"""An outage is waited out, where waiting is all that can be done."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tracemend.kit.errors import Retry, SetupError
from tracemend.runtime.patience import patient_ledger, patient_store


class Flaky:
    """A port that is away for its first calls."""

    def __init__(self, *, num_away: int, error: type[Exception] = Retry) -> None:
        self.num_calls = 0
        self._num_away = num_away
        self._error = error

    async def put(self, content: bytes) -> str:
        return self._answer()

    async def get(self, digest: str) -> bytes:
        return self._answer().encode()

    async def run_state(self, run: str) -> str:
        return self._answer()

    async def outcomes(self, run: str) -> AsyncIterator[str]:
        yield self._answer()

    def _answer(self) -> str:
        self.num_calls += 1
        if self.num_calls <= self._num_away:
            raise self._error("away")
        return "answer"


async def test_a_ledger_is_asked_until_it_answers() -> None:
    flaky = Flaky(num_away=3)
    assert await patient_ledger(flaky).run_state("run") == "answer"  # type: ignore[arg-type]
    assert flaky.num_calls == 4


async def test_what_waiting_does_not_mend_comes_out_at_once() -> None:
    flaky = Flaky(num_away=9, error=SetupError)
    with pytest.raises(SetupError):
        await patient_ledger(flaky).run_state("run")  # type: ignore[arg-type]
    assert flaky.num_calls == 1


async def test_a_store_waits_with_writes_and_not_with_reads() -> None:
    assert await patient_store(Flaky(num_away=1)).put(b"") == "answer"  # type: ignore[arg-type]
    with pytest.raises(Retry):
        await patient_store(Flaky(num_away=1)).get("digest")  # type: ignore[arg-type]


async def test_an_iteration_raises_as_it_did() -> None:
    with pytest.raises(Retry):
        await anext(aiter(patient_ledger(Flaky(num_away=1)).outcomes("run")))  # type: ignore[arg-type]
