"""The keys of an OpenID Connect provider (JWKS, RFC 7517), fetched once and kept.

A key that is not known is asked for again, at most twice a minute: made-up key ids must not make us a client that
hammers the provider. While the provider is out of reach, known keys go on working.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from tracemend.kit.errors import Retry

log = structlog.get_logger(__name__)
_TIMEOUT_S = 10.0
_MIN_INTERVAL_S = 30.0
_MAX_BYTES = 2**20


class Keys:
    """Public keys by key id, from an https URL or a file."""

    def __init__(
        self,
        source: str,
        *,
        ca_file: Path | None = None,
        ttl_s: float = 3600.0,
        min_interval_s: float = _MIN_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._ca_file = ca_file
        self._ttl_s = ttl_s
        self._min_interval_s = min_interval_s
        self._clock = clock
        self._keys: Mapping[str, Any] = {}
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._lock = asyncio.Lock()

    async def get(self, kid: str) -> Any:
        """The key called `kid`; None if the provider has none. `Retry` while no keys could be had at all."""
        if self._is_old() or kid not in self._keys:
            async with self._lock:
                if self._may_ask() and (self._is_old() or kid not in self._keys):
                    await self._load()
        if self._loaded_at is None:
            raise Retry("identity provider unavailable", after_s=self._min_interval_s)
        return self._keys.get(kid)

    def _is_old(self) -> bool:
        return self._loaded_at is None or self._clock() - self._loaded_at > self._ttl_s

    def _may_ask(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= self._min_interval_s

    async def _load(self) -> None:
        from jwt import PyJWKSet
        from jwt.exceptions import PyJWTError

        self._tried_at = self._clock()
        try:
            content = await asyncio.to_thread(self._read)
            found = PyJWKSet.from_dict(json.loads(content))
        except (OSError, ValueError, PyJWTError, AttributeError, TypeError) as error:
            log.warning("jwks_not_read", source=self._source, error=type(error).__name__)
            return
        self._keys = {key.key_id or "": key for key in found.keys}
        self._loaded_at = self._clock()

    def _read(self) -> bytes:
        if not self._source.startswith("https://"):
            return Path(self._source.removeprefix("file://")).read_bytes()
        context = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
        with urllib.request.urlopen(self._source, timeout=_TIMEOUT_S, context=context) as response:  # https by settings
            content: bytes = response.read(_MAX_BYTES)
        return content
