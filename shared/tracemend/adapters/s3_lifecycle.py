"""What the bucket does by itself: forgets half uploads, trials and old damage, and never a blob that is needed.

Whoever administers the bucket calls `apply_rules`; programs call `check_rules` at start. A message on a topic, in a
retry tier or among the dead letters may name a blob that no ledger row names yet, so blobs must outlive all of them
and the time that people take to redrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_store import BLOBS, QUARANTINE
from tracemend.kit.errors import SetupError
from tracemend.topics import ALL, Topic

TRIALS = "probe/"
DEAD_LETTER_HOURS = 24 * 28
"""How long dead letters are kept, unless the operator says otherwise."""
REDRIVE_HOURS = 24 * 7
"""How long a redriven message may take round the loop."""
_OURS = "tracemend-"
_QUARANTINE_DAYS = 30


def needed_hours(
    topics: Sequence[Topic] = ALL,
    *,
    dead_letter_hours: float = DEAD_LETTER_HOURS,
    redrive_hours: float = REDRIVE_HOURS,
) -> float:
    """How long a blob must stay because a message may still name it: on its topic, then as a dead letter, then
    redriven."""
    return max(topic.retention_hours for topic in topics) + dead_letter_hours + redrive_hours


async def apply_rules(bucket: Bucket) -> None:
    """Set our lifecycle rules, in place of our older ones; other people's stay.

    Where the bucket keeps versions, a purged blob's go after a day. (MinIO takes no rule about half uploads alone, and
    heeds none: it removes them after a day by itself.)
    """
    from minio.commonconfig import ENABLED, Filter
    from minio.lifecycleconfig import (
        AbortIncompleteMultipartUpload,
        Expiration,
        LifecycleConfig,
        NoncurrentVersionExpiration,
        Rule,
    )

    prefix = bucket.settings.prefix
    mark = f"{_OURS}{prefix.replace('/', '-')}"
    ours = [
        Rule(
            ENABLED,
            rule_filter=Filter(prefix=prefix),
            rule_id=f"{mark}uploads",
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=1),
            expiration=Expiration(expired_object_delete_marker=True),
            noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=1),
        ),
        *(
            Rule(
                ENABLED,
                rule_filter=Filter(prefix=prefix + folder),
                rule_id=f"{mark}{folder.rstrip('/')}",
                expiration=Expiration(days=days),
            )
            for folder, days in ((TRIALS, 1), (QUARANTINE, _QUARANTINE_DAYS))
        ),
    ]
    names = {rule.rule_id for rule in ours}
    rules = [rule for rule in await _rules(bucket) if rule.rule_id not in names]
    await bucket.run(
        "lifecycle",
        lambda: bucket.client.set_bucket_lifecycle(bucket.settings.bucket, LifecycleConfig([*rules, *ours])),
    )


async def check_rules(bucket: Bucket, *, hours: float | None = None) -> None:
    """`SetupError` where a rule of the bucket removes blobs before `hours` (default: `needed_hours()`) have passed."""
    hours = needed_hours() if hours is None else hours
    blobs = bucket.settings.prefix + BLOBS
    for rule in await _rules(bucket):
        days = _days_of(rule)
        covered = _prefix_of(rule)
        touches = covered.startswith(blobs) or blobs.startswith(covered)
        if rule.status == "Enabled" and touches and days is not None and days * 24 < hours:
            raise SetupError(
                f"rule '{rule.rule_id}' of bucket '{bucket.settings.bucket}' removes blobs after {days} days, while "
                f"messages may name them for {hours / 24:.0f}: remove the rule, or keep messages for less long"
            )


async def _rules(bucket: Bucket) -> list[Any]:
    found = await bucket.run("lifecycle", lambda: bucket.client.get_bucket_lifecycle(bucket.settings.bucket))
    return list(found.rules) if found else []


def _days_of(rule: Any) -> int | None:
    """How old objects get by a rule, none where it removes none; a rule by date removes what is new as well."""
    expiration = rule.expiration
    return None if expiration is None else 0 if expiration.date is not None else expiration.days


def _prefix_of(rule: Any) -> str:
    where = rule.rule_filter
    if where is None:
        return ""
    return str(where.prefix or (where.and_operator.prefix if where.and_operator else "") or "")
