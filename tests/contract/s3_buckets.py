"""A bucket of one test's own on the S3 server that S3_ENDPOINT names, gone again at the end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.needs import needs_server

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_settings import settings_of


@asynccontextmanager
async def new_bucket(prefix: str = "some/where", **changed: Any) -> AsyncIterator[Bucket]:
    """`changed` are fields of `S3Settings` that a test sets otherwise."""
    needs_server("S3_ENDPOINT")
    bucket = Bucket(settings_of(f"s3:tracemend-test-{secrets.token_hex(6)}/{prefix}", **changed))
    name = bucket.settings.bucket
    await bucket.run("make", lambda: bucket.client.make_bucket(name))
    try:
        yield bucket
    finally:
        for found in bucket.client.list_objects(name, recursive=True):
            bucket.client.remove_object(name, found.object_name)
        bucket.client.remove_bucket(name)
        bucket.close()
