"""Named places at which a test has this process die, and protections that a test takes away.

Called by the pump and by what it stands on; tests of chaos set the variables for the services that they start, nobody
else does, and without them every function here is a no-op. TRACEMEND_CRASH_AT is `PLACE:NUMBER`: the process ends by
SIGKILL when it reaches the place for the NUMBERth time. TRACEMEND_WITHOUT is a comma list of protections to leave out:
a check of them that cannot fail proves nothing.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

CRASH_AT = "TRACEMEND_CRASH_AT"
WITHOUT = "TRACEMEND_WITHOUT"

BEFORE_PACK = "before_pack"
BEFORE_LEDGER = "before_ledger"
BEFORE_PUBLISH = "before_publish"
BEFORE_ACKNOWLEDGE = "before_acknowledge"
AFTER_ACKNOWLEDGE = "after_acknowledge"
PLACES = (BEFORE_PACK, BEFORE_LEDGER, BEFORE_PUBLISH, BEFORE_ACKNOWLEDGE, AFTER_ACKNOWLEDGE)

WORK_BEFORE_COMMIT = "work_before_commit"
"""What is read counts as done only once it is."""
DEDUPLICATION = "deduplication"
"""Finished work is not done again."""
DIGEST_CHECK = "digest_check"
"""What is read from the store is what was written there."""
DELIVERY_REPORTS = "delivery_reports"
"""What is published counts as published once the broker says so."""
ASKING_AGAIN = "asking_again"
"""Where no prompt ends for long, those in the loop are asked for again. Not what loses nothing: delivery alone must."""
PROTECTIONS = (WORK_BEFORE_COMMIT, DEDUPLICATION, DIGEST_CHECK, DELIVERY_REPORTS, ASKING_AGAIN)

_PLACE, _, _NUMBER = os.environ.get(CRASH_AT, "").partition(":")
_MISSING = frozenset(filter(None, os.environ.get(WITHOUT, "").split(",")))
_reached: Counter[str] = Counter()

if not ({_PLACE} <= {"", *PLACES} and set(PROTECTIONS) >= _MISSING):  # a typo must not pass for a crash survived
    raise ValueError(f"{CRASH_AT} knows {', '.join(PLACES)} and {WITHOUT} knows {', '.join(PROTECTIONS)}")


def reached(place: str) -> None:
    """Says that this process is at `place`; it may not come back."""
    if place != _PLACE:
        return
    _reached[place] += 1
    if _reached[place] >= int(_NUMBER or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def is_missing(protection: str) -> bool:
    """Whether a test took `protection` away."""
    return protection in _MISSING
