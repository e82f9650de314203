"""Short-lived links by which a browser reads one blob without our help, as a text file and nothing else.

For reviewers, after the audit entry is written. A link is a bearer secret: it lives at most 15 minutes, is for GET
alone, is never logged, and makes the server answer with `text/plain` as an attachment, so that no browser runs what a
model wrote.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from tracemend.adapters.s3_store import S3Store, name_of

LONGEST_S = 900.0

log = structlog.get_logger(__name__)


async def link_to(store: S3Store, digest: str, *, valid_s: float = 300.0) -> str:
    """A URL that gives blob `digest` to whoever holds it, for `valid_s` seconds. `KeyError` if there is no blob."""
    if not 1 <= valid_s <= LONGEST_S:
        raise ValueError(f"a link is valid for 1 to {LONGEST_S:,.0f} seconds, not {valid_s:g}")
    if not await store.has(digest):
        raise KeyError(digest)
    settings = store.bucket.settings

    def sign() -> str:
        return str(
            store.bucket.client.presigned_get_object(
                settings.bucket,
                settings.prefix + name_of(digest),
                expires=timedelta(seconds=valid_s),
                response_headers={
                    "response-content-type": "text/plain; charset=utf-8",
                    "response-content-disposition": f'attachment; filename="{digest}.txt"',
                    "response-cache-control": "no-store",
                },
            )
        )

    link = await store.bucket.run("link", sign)
    log.info("link_given", digest=digest, valid_s=valid_s)
    return link
