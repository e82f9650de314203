"""The errors that stages, adapters and commands speak.

    TracemendError
    ├── SetupError            the user must change something; the message says what
    ├── Retry                 transient: try the same work again after a delay
    ├── Reject                this record can never work; it ends as its stage says
    ├── PutAside              the record's run is paused or has ended; acknowledge the record unworked
    └── CorruptBlob           a stored blob is not what was stored; restore it or make it again

A `SetupError` of a stage's work stops the run: no record is to blame, and all may succeed once it is mended.
`ValueError` is for a caller's bad argument, `assert` for our own mistakes. Anything else that escapes the work of a
stage is a bug: the pump dead-letters the record with its envelope intact and goes on with its neighbours.
"""

from __future__ import annotations


class TracemendError(Exception):
    """Root of the errors that this project raises on purpose."""


class SetupError(TracemendError):
    """Something that the user configured cannot work; the message names it and says what to change."""


class Retry(TracemendError):
    """The work may succeed later: a busy endpoint, a lost connection."""

    def __init__(self, reason: str, *, after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s


class Reject(TracemendError):
    """This record can never succeed; `reason` is a short code that counts and reports group by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class PutAside(TracemendError):
    """The run that a record belongs to is not worked on: the record is acknowledged and nothing is remembered of it.
    Whoever takes the run up again asks for what is unfinished."""


class CorruptBlob(TracemendError):
    """A blob no longer matches its digest, or is shorter than an address into it says."""
