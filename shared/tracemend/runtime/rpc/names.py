"""Resource names (AIP-122) and etags (AIP-154), as every servicer reads and writes them."""

from __future__ import annotations

import hashlib
import re
from functools import cache

from tracemend.runtime.rpc.faults import conflict, violated

ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""What may stand between the slashes."""
_VARIABLE = re.compile(r"\{\w+\}")


def parse_name(name: str, pattern: str, *, field: str = "name") -> tuple[str, ...]:
    """The ids in `name`, which must look like `pattern` (`runs/{run}/deadLetters/{id}`).

    INVALID_ARGUMENT that names `field` if it does not; `-` stands for all of a collection only where a pattern says so.
    """
    match = _compiled(pattern).fullmatch(name)
    if match is None:
        raise violated({field: f"must be of the form {pattern}"})
    return match.groups()


def format_name(pattern: str, *ids: str) -> str:
    """`pattern` with its variables filled in, in order."""
    rest = iter(ids)
    return _VARIABLE.sub(lambda _: next(rest), pattern)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (f"({ID})" if _VARIABLE.fullmatch(part) else re.escape(part) for part in pattern.split("/"))
    return re.compile("/".join(parts), re.ASCII)


def etag_of(*state: object) -> str:
    """A strong, quoted etag of whatever determines a resource's state."""
    digest = hashlib.sha256("\0".join(map(str, state)).encode()).hexdigest()[:16]
    return f'"{digest}"'


def check_etag(given: str, current: str, *, name: str) -> None:
    """ABORTED if the caller gave an etag and the resource has another by now."""
    if given and given.strip('"') != current.strip('"'):
        raise conflict(name, f"{name} has changed since it was read; read it again", reason="ETAG_MISMATCH")
