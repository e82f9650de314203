"""What an `s3:` URL and the environment say about a bucket: where it is, who asks, how blobs are encrypted.

Read by `runtime.opening`. The URL names the place, the environment holds the secrets, so that a URL may be printed:
S3_ENDPOINT, S3_REGION and S3_SSE where the URL is silent; S3_ACCESS_KEY and S3_SECRET_KEY, or S3_SECRET_KEY_FILE for
one that rotates; S3_CAFILE for a private authority. Without S3_ACCESS_KEY the identity that AWS's own variables give
is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean
from tracemend.kit.secrets import Secret, secret_of
from tracemend.kit.urls import shown

_BUCKET = re.compile(r"(?!.*(?:\.[.-]|-\.))(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9_-]{1,63}")
_OPTIONS = ("endpoint", "region", "sse")
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_FORM = "s3:BUCKET[/PREFIX][?endpoint=URL&region=NAME&sse=s3|kms:KEY]"
MIN_PART_BYTES = 5 * 2**20
"""S3 takes no smaller part but the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """One bucket, or a part of it, as one identity sees it."""

    bucket: str
    prefix: str = ""
    """Begins every object's name; empty or ending in `/`."""
    host: str
    secure: bool = True
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: Secret = field(default_factory=Secret)
    ca_file: str = ""
    sse: str = ""
    """`s3` for the server's own keys, `kms:KEY` for a named one; empty leaves it to the bucket's default."""
    num_connections: int = 16
    part_bytes: int = 32 * 2**20
    """Larger blobs go in parts of this size, at least 5 MiB."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    """Of silence, not of a whole transfer."""
    num_attempts: int = 6
    patience_s: float = 60.0
    """How long one operation is tried again before its caller hears `Retry`."""

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}"


def settings_of(url: str, environ: Mapping[str, str] = os.environ, **changed: Any) -> S3Settings:
    """`changed` are fields to set otherwise. `SetupError` says what to change in the URL or the environment."""
    place, _, query = url.partition(":")[2].partition("?")
    bucket, _, prefix = place.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise SetupError(f"store URL '{shown(url)}': its start is no bucket name; write {_FORM}")
    if {".", ".."} & set(prefix.split("/")):
        raise SetupError(f"store URL '{shown(url)}': a prefix holds no '.' or '..' between slashes")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options.keys() - set(_OPTIONS):
        raise SetupError(f"store URL '{shown(url)}': unknown option '{name}'{did_you_mean(name, list(_OPTIONS))}")
    secure, host = _host(options.get("endpoint") or environ.get("S3_ENDPOINT", ""))
    access_key, secret_key = environ.get("S3_ACCESS_KEY", ""), secret_of("S3_SECRET_KEY", environ)
    if bool(access_key) != bool(secret_key) or not (access_key or any(name in environ for name in _AWS)):
        raise SetupError("set both S3_ACCESS_KEY and S3_SECRET_KEY (or S3_SECRET_KEY_FILE), or AWS's own variables")
    settings = S3Settings(
        bucket=bucket,
        prefix=f"{prefix.strip('/')}/" if prefix.strip("/") else "",
        host=host,
        secure=secure,
        region=_region(options.get("region") or environ.get("S3_REGION") or "us-east-1"),
        access_key=access_key,
        secret_key=secret_key,
        ca_file=environ.get("S3_CAFILE", ""),
        sse=_encryption(options.get("sse") or environ.get("S3_SSE", "")),
    )
    return replace(settings, **changed)


def _host(endpoint: str) -> tuple[bool, str]:
    if not endpoint:
        raise SetupError("which S3 server? Set S3_ENDPOINT, or write ?endpoint=https://HOST[:PORT] in the store URL")
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:  # half a bracket, or no number for a port; it may hold a password
        raise SetupError("the S3 endpoint cannot be read: write http[s]://HOST[:PORT] and nothing more") from None
    if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query or parts.username:
        raise SetupError(f"S3 endpoint '{host or shown(endpoint)}': write http[s]://HOST[:PORT] and nothing more")
    return parts.scheme == "https", parts.netloc


def _region(name: str) -> str:
    if not _REGION.fullmatch(name):
        raise SetupError(f"S3 region '{name}': it has small letters, digits, _ and - alone")
    return name


def _encryption(sse: str) -> str:
    if sse not in ("", "s3") and not re.fullmatch(r"kms:\S+", sse):
        raise SetupError(f"S3 encryption '{sse}': write s3, or kms:KEY")
    return sse
