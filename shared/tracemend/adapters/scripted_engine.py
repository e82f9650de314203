"""The `scripted:` engine: a registered Python function where a language model would stand.

Used by the proving ground (its teacher), by tests and by null benchmarks, where `delay_s` and `jitter_s` stand for the
time that a model would take. Any number of requests run at once; the script is a pure function of the request.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from tracemend.adapters.scripts import scripts
from tracemend.kit.errors import Retry
from tracemend.kit.ids import digest_of, seed_of
from tracemend.kit.ports import Capabilities, Completion, ModelRequest


class ScriptedEngine:
    """A `TextModel` over the script plug-in `name`; `options` are the script's own."""

    capabilities = Capabilities(seeds=True)

    def __init__(
        self, name: str, *, options: Mapping[str, Any] | None = None, delay_s: float = 0.0, jitter_s: float = 0.0
    ) -> None:
        """Each completion takes `delay_s` to `delay_s + jitter_s` seconds, chosen by the request's seed."""
        self._options = dict(options or {})
        self._script = scripts.create(name, **self._options)
        self._name = name
        self._delay_s = delay_s
        self._jitter_s = jitter_s
        self._closed = asyncio.Event()

    @property
    def identity(self) -> str:
        """Digest of the script's name and options: delays do not change what it writes."""
        return digest_of(["scripted", self._name, self._options])

    async def complete(self, request: ModelRequest) -> Completion:
        seconds = self._delay_s + self._jitter_s * (seed_of(f"delay/{request.seed}") / 2**63)
        if seconds and not self._closed.is_set():
            await self._sleep(seconds)
        if self._closed.is_set():
            raise Retry("engine_closed")
        completion: Completion = self._script(request)
        return dataclasses.replace(completion, seconds=seconds) if seconds else completion

    async def _sleep(self, seconds: float) -> None:
        """Wait for `seconds`, or less if the engine is closed meanwhile."""
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except TimeoutError:
            return

    async def aclose(self) -> None:
        self._closed.set()
