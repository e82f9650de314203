"""What an S3 server or the way to it said, as the errors that stages speak.

Used by `s3_bucket`. A refusal (wrong key, no such bucket, no permission, a wrong clock) is a `SetupError` that names
what to change: asking again cannot help. Everything that may pass, a time-out after which nobody knows whether the
server did it included, is `Retry`: blobs lie under their own digest, so doing it again is harmless. Error bodies are
never repeated in full: a server may quote what it was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tracemend.adapters.s3_settings import S3Settings
from tracemend.kit.errors import Retry, SetupError

_BUSY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509})
_BUSY_CODES = frozenset({
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "IncompleteBody",
    "BadDigest", "XAmzContentSHA256Mismatch", "Busy", "TooManyRequests",
})  # fmt: skip
_FULL_CODES = frozenset({"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"})
_FULL_AFTER_S = 30.0
_BUSY_AFTER_S = 1.0


class Missing(Exception):
    """There is no such object."""


class PastEnd(Exception):
    """A range begins behind the end of its object."""


def caught() -> tuple[type[Exception], ...]:
    """What minio-py and its transport raise; asked for late, since importing them is heavy."""
    from minio.error import MinioException
    from urllib3.exceptions import HTTPError

    return MinioException, HTTPError, OSError


def translated(error: Exception, settings: S3Settings) -> Exception:
    """`Missing`, `PastEnd`, `Retry` or `SetupError` for what `caught` names."""
    from minio.error import InvalidResponseError, S3Error, ServerError

    match error:
        case S3Error(code="NoSuchKey" | "NoSuchUpload" | "NoSuchVersion"):
            return Missing()
        case S3Error(code="InvalidRange"):
            return PastEnd()
        case S3Error():
            return _refused(error, settings)
        case ServerError():
            return _by_status(error.status_code, settings)
        case InvalidResponseError():
            return _by_status(getattr(error, "_code", 0), settings)
    return _unreachable(error, settings)


def _refused(error: Any, settings: S3Settings) -> Exception:
    code, status = str(error.code), int(error.response.status)
    where = f"bucket '{settings.bucket}' at {settings.endpoint}"
    if code in _FULL_CODES or status == 507:
        return Retry(f"no room in {where} ({code}): free some, or raise its quota", after_s=_FULL_AFTER_S)
    if code in _BUSY_CODES or status in _BUSY_STATUS:
        return Retry(f"{where} is busy ({code})", after_s=_BUSY_AFTER_S)
    if code == "RequestTimeTooSkewed":
        skew = clock_skew_s(error.response.headers)
        by = f" by {abs(skew):,.0f} s" if skew is not None else ""
        return SetupError(f"this machine's clock and that of {settings.endpoint} differ{by}: set both by NTP")
    return SetupError(f"{where} refused ({code}): {_ADVICE.get(code, 'see what the server says to that code')}")


_ADVICE = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the store URL",
    "AccessDenied": "this identity needs s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there",
    "InvalidAccessKeyId": "the server does not know S3_ACCESS_KEY; correct it",
    "SignatureDoesNotMatch": "S3_SECRET_KEY does not belong to S3_ACCESS_KEY; correct it",
    "AuthorizationHeaderMalformed": "S3_REGION is not the bucket's region; correct it",
    "PermanentRedirect": "the bucket is in another region; set S3_REGION and the endpoint to it",
    "Redirect": "the bucket is in another region; set S3_REGION and the endpoint to it",
    "NotImplemented": "the server lacks what was asked for; leave out the option sse, or use another server",
    "KMSNotConfigured": "the server holds no keys; leave out the option sse, or configure them there",
}


def _by_status(status: int, settings: S3Settings) -> Exception:
    if status in _BUSY_STATUS:
        return Retry(f"{settings.endpoint} answers {status}", after_s=_BUSY_AFTER_S)
    return SetupError(
        f"{settings.endpoint} answers {status} and not as an S3 server does; correct S3_ENDPOINT or the proxy before"
    )


def _unreachable(error: Exception, settings: S3Settings) -> Exception:
    from urllib3.exceptions import MaxRetryError, SSLError

    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    if isinstance(cause, SSLError):
        return SetupError(
            f"no trusted connection to {settings.endpoint}: name its authority in S3_CAFILE, or correct the scheme"
        )
    return Retry(f"{settings.endpoint} does not answer ({type(cause).__name__})", after_s=_BUSY_AFTER_S)


def clock_skew_s(headers: Any) -> float | None:
    """How far the server's clock is ahead of ours by its `Date` header, to a second; none where it sent none."""
    try:
        said = parsedate_to_datetime(headers.get("Date") or "")
    except ValueError:
        return None
    return (said.replace(tzinfo=said.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
