"""Pages of a list (AIP-158): sizes that are coerced, and tokens that belong to one query.

List methods of every servicer use one `Pages`. A token names the place to go on from and is signed together with the
query (every field of the request but size and token), so that a token of another query, or an invented one, is
refused instead of giving a wrong page. Replicas of a service must share the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import Any

from tracemend.runtime.rpc.faults import Fault, invalid
from tracemend.runtime.rpc.files import read_secret

_TAG_BYTES = 16
DEFAULT_SIZE = 100
MAX_SIZE = 1000


def open_pages(key_file: Path | None) -> Pages:
    """Pages whose tokens are signed with the secret in `key_file`; `SetupError` where it cannot be read."""
    return Pages(read_secret(key_file, "page_key_file").encode() if key_file is not None else b"")


class Pages:
    """Reads and writes page tokens. Without a secret `key`, tokens are bound to their query and can be forged."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key or b"tracemend page tokens"

    def size(self, request: Any, *, default: int = DEFAULT_SIZE, maximum: int = MAX_SIZE) -> int:
        """How many rows to give: the default for 0, the maximum for more; INVALID_ARGUMENT below 0."""
        if request.page_size < 0:
            raise invalid(page_size="must not be negative; 0 means the default")
        return min(request.page_size or default, maximum)

    def token(self, request: Any, place: str) -> str:
        """The token that goes on with `request` after `place`; the empty token, for the end, where there is none."""
        if not place:
            return ""
        content = place.encode()
        return base64.urlsafe_b64encode(self._tag(request, content) + content).decode().rstrip("=")

    def place(self, request: Any) -> str:
        """Where `request` goes on; empty for the start. INVALID_ARGUMENT for a token that is not of this query."""
        token = request.page_token
        if not token:
            return ""
        try:
            content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _foreign() from None
        tag, place = content[:_TAG_BYTES], content[_TAG_BYTES:]
        if not place or not hmac.compare_digest(tag, self._tag(request, place)):
            raise _foreign()
        try:
            return place.decode()
        except UnicodeDecodeError:  # forged, where there is no secret
            raise _foreign() from None

    def _tag(self, request: Any, place: bytes) -> bytes:
        query = type(request)()
        query.CopyFrom(request)
        query.ClearField("page_size")
        query.ClearField("page_token")
        signed = b"\0".join((request.DESCRIPTOR.full_name.encode(), place, query.SerializeToString(deterministic=True)))
        return hmac.new(self._key, signed, hashlib.sha256).digest()[:_TAG_BYTES]


def _foreign() -> Fault:
    return invalid(page_token="is not a token of this query; leave it empty to start over, with the same filter")
