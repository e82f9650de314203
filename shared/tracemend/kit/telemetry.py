"""What is counted, timed and traced: the port that pumps, buses and services report to, and the metric catalogue.

Pumps, adapters and the RPC runtime take a `Telemetry` and call it; `NO_TELEMETRY` is the default everywhere, so that
nothing below `runtime` knows Prometheus or OpenTelemetry. The constants here are the only metric names that exist:
dashboards, alert rules and autoscaling read the same catalogue. Labels are bounded (stages, outcomes, reason codes,
topic names), never ids and never text; what is not in the catalogue is a mistake of ours and fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

NO_TRACE: Mapping[str, str] = MappingProxyType({})
"""The trace context of what nobody traces."""

Attribute: TypeAlias = str | int | float | bool


class Telemetry(Protocol):
    """Where measurements go. Every method returns at once and raises for what the catalogue lacks, nothing else."""

    def item(self, stage: str, outcome: str, reason: str = "", seconds: float = 0.0) -> None:
        """A piece of work left `stage`. `outcome` is one of `ITEM_OUTCOMES`; `reason` is the code of a dead or retried
        one; `seconds` is how long it was worked, 0 where it was not."""
        ...

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge of the catalogue."""
        ...

    def count(self, name: str, number: float = 1, **labels: str) -> None:
        """Add to a counter of the catalogue."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram of the catalogue."""
        ...

    def span(
        self,
        name: str,
        *,
        trace: Mapping[str, str] = NO_TRACE,
        links: Sequence[Mapping[str, str]] = (),
        **attributes: Attribute,
    ) -> AbstractContextManager[Mapping[str, str]]:
        """Trace what happens inside: `with telemetry.span("process generator", trace=message.trace) as trace:`.

        The given mapping is the W3C context (`traceparent`, `tracestate`) for whatever is sent from inside. Without a
        `trace` the span is a child of the enclosing one. `links` are the contexts of a batch's other causes.
        `attributes` are codes and numbers; model text is recorded as its digest.
        """
        ...


class _NoTelemetry:
    """Measures nothing; trace contexts pass through."""

    def item(self, stage: str, outcome: str, reason: str = "", seconds: float = 0.0) -> None:
        return

    def gauge(self, name: str, value: float, **labels: str) -> None:
        return

    def count(self, name: str, number: float = 1, **labels: str) -> None:
        return

    def observe(self, name: str, value: float, **labels: str) -> None:
        return

    @contextmanager
    def span(
        self,
        name: str,
        *,
        trace: Mapping[str, str] = NO_TRACE,
        links: Sequence[Mapping[str, str]] = (),
        **attributes: Attribute,
    ) -> Iterator[Mapping[str, str]]:
        yield trace


NO_TELEMETRY: Telemetry = _NoTelemetry()

# ------------------------------------------------------------------------------------------ catalogue

ITEM_OUTCOMES = ("done", "replayed", "retried", "dead")
"""Worked; answered from the ledger; put back for later; given up."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Histogram buckets: from a ledger write to a long reasoning trace."""
ROUNDS = (0, 1, 2, 3, 4, 5, 8)

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One entry of the catalogue. `labels` maps each label to its values, empty where they are a configured few
    (stages, topics, models) that cannot be listed here."""

    name: str
    kind: Kind
    about: str
    labels: Mapping[str, tuple[str, ...]]
    buckets: tuple[float, ...] = ()


CATALOGUE: dict[str, Metric] = {}
"""Every metric by its name."""


def _metric(kind: Kind, name: str, about: str, buckets: tuple[float, ...] = (), /, **labels: tuple[str, ...]) -> str:
    full = f"tracemend_{name}"
    assert full not in CATALOGUE, full
    CATALOGUE[full] = Metric(name=full, kind=kind, about=about, labels=MappingProxyType(labels), buckets=buckets)
    return full


_ANY: tuple[str, ...] = ()

# Every stage.
ITEMS = _metric("counter", "items_total", "Pieces of work that left a stage.", stage=_ANY, outcome=ITEM_OUTCOMES)
ITEM_SECONDS = _metric("histogram", "item_seconds", "Seconds of work per piece.", SECONDS, stage=_ANY)
RETRIED = _metric("counter", "retried_total", "Pieces put back for later, by why.", stage=_ANY, reason=_ANY)
DLQ = _metric("counter", "dlq_total", "Messages given up to the dead letters, by why.", stage=_ANY, reason=_ANY)
IN_FLIGHT = _metric("gauge", "inflight_items", "Pieces being worked.", stage=_ANY)
DEDUP_HITS = _metric("counter", "dedup_hits_total", "Pieces whose result was known before.", stage=_ANY)
OUTCOMES = _metric("counter", "outcomes_total", "Units that ended, by how.", state=_ANY)
MONEY = _metric("counter", "money_total", "Money spent, in the currency of the price table.", stage=_ANY)

# The bus.
QUEUE_AGE = _metric(
    "gauge", "queue_age_seconds", "How long the oldest message in hand was read ago.", group=_ANY, topic=_ANY
)
LAG_ITEMS = _metric(
    "gauge", "lag_items", "Messages from the first that is not done to the end of the topic.", group=_ANY, topic=_ANY
)
LAG_SECONDS = _metric(
    "gauge", "lag_seconds", "Seconds since the first that is not done was written.", group=_ANY, topic=_ANY
)
BACKLOG_ITEMS = _metric(
    "gauge",
    "backlog_items",
    "Messages not done, as the bus tells it: also of groups without members.",
    group=_ANY,
    topic=_ANY,
)
BACKLOG_SECONDS = _metric(
    "gauge", "backlog_seconds", "Seconds since the first of them was written.", group=_ANY, topic=_ANY
)
GROUP_MEMBERS = _metric("gauge", "group_members", "Processes that read the topic.", group=_ANY, topic=_ANY)
COMMIT_GAP = _metric("gauge", "commit_gap_items", "Messages done out of order, uncommitted.", group=_ANY, topic=_ANY)
COMMITS = _metric("counter", "commits_total", "Offset commits.", group=_ANY, outcome=("ok", "failed"))
REDELIVERED = _metric("counter", "redelivered_total", "Messages delivered more than once.", group=_ANY)
REBALANCES = _metric("counter", "rebalances_total", "Changes of partition assignment.", group=_ANY)
ASSIGNED = _metric("gauge", "assigned_partitions", "Partitions assigned to this process.", group=_ANY, topic=_ANY)
PUBLISHED = _metric("counter", "published_total", "Messages published.", topic=_ANY, outcome=("ok", "failed"))
PUBLISH_SECONDS = _metric("histogram", "publish_seconds", "Seconds until a batch was durable in the bus.", SECONDS)
MESSAGE_AGE = _metric("histogram", "message_age_seconds", "Seconds from publishing to delivery.", SECONDS, topic=_ANY)
CLAIM_CHECKS = _metric("counter", "claim_checks_total", "Messages whose body went to the store.", topic=_ANY)

# Store and ledger.
STORE_SECONDS = _metric(
    "histogram", "store_op_seconds", "Seconds per store operation.", SECONDS, op=_ANY, outcome=("ok", "failed")
)
STORE_BYTES = _metric("counter", "store_bytes_total", "Bytes moved.", op=("put", "get"))
STORE_CORRUPT = _metric("counter", "store_corrupt_total", "Reads whose content did not match its digest.")
LEDGER_SECONDS = _metric(
    "histogram", "ledger_op_seconds", "Seconds per ledger operation.", SECONDS, op=_ANY, outcome=("ok", "failed")
)

# Engines.
TOKENS = _metric("counter", "tokens_total", "Tokens of engines.", model=_ANY, kind=("prompt", "cached", "new"))
ENGINE_SECONDS = _metric("counter", "engine_seconds_total", "Seconds of engine time.", model=_ANY)
ENGINE_STARTS = _metric("counter", "engine_starts_total", "Engines that were opened.", model=_ANY)
ENGINE_WAITING = _metric("gauge", "engine_requests", "Requests that an engine is working.", model=_ANY)

# Judge and corrector.
VERDICTS = _metric("counter", "verdicts_total", "Verdicts.", axis=_ANY, value=("safe", "unsafe", "unknown"))
PARSE_FAILURES = _metric("counter", "parse_failures_total", "Replies of judges that did not parse.", judge=_ANY)
DISAGREEMENTS = _metric("counter", "disagreements_total", "Verdicts with reasoning and answer apart.", axis=_ANY)
CORRECTIONS = _metric("counter", "corrections_total", "Corrections by their end.", outcome=("accepted", "rejected"))
CORRECTION_REJECTS = _metric("counter", "correction_rejects_total", "Rejected corrections, by why.", reason=_ANY)
CORRECTION_ROUNDS = _metric("histogram", "correction_rounds", "Interventions until a unit ended.", ROUNDS)

# Training and evaluation jobs.
JOBS = _metric("counter", "jobs_total", "Jobs by how they ended.", kind=_ANY, outcome=("ok", "failed", "cancelled"))
JOB_REPEATS = _metric("counter", "job_repeats_total", "Attempts on jobs beyond their first.", kind=_ANY)
JOBS_RUNNING = _metric("gauge", "jobs_running", "Jobs under way.", kind=_ANY)
JOB_SILENCE = _metric("gauge", "job_silence_seconds", "Seconds since the most silent of them was heard.", kind=_ANY)
POOL_HELD = _metric("gauge", "pool_held", "1 while generators rest so that a job has the GPUs that they share.")
TRAINING_STEP = _metric("gauge", "training_step", "Last finished step of the training under way.")
TRAINING_STEPS = _metric("gauge", "training_steps", "Steps that it has in all.")
TRAINING_LOSS = _metric("gauge", "training_loss", "Loss at that step.")
CHECKPOINT_AGE = _metric(
    "gauge", "checkpoint_age_seconds", "Seconds since its last checkpoint was durable, or since it began."
)

# gRPC. `method` is the full method name, `code` the status name.
RPC_SERVER_SECONDS = _metric(
    "histogram", "rpc_server_seconds", "Seconds per call served.", SECONDS, method=_ANY, code=_ANY
)
RPC_IN_FLIGHT = _metric("gauge", "rpc_inflight", "Calls being served.", method=_ANY)
UPLOADED_ROWS = _metric("counter", "uploaded_rows_total", "Prompts received and made durable.")
AUDIT_FAILURES = _metric("counter", "audit_failures_total", "Audit entries that could not be written.")
CERTIFICATE_EXPIRY = _metric("gauge", "certificate_expiry_seconds", "Seconds until our certificate ends.")

# The process.
BUILD_INFO = _metric("gauge", "build_info", "1, with what runs.", version=_ANY, service=_ANY)
READY = _metric("gauge", "ready", "1 while every dependency answers.")
DEPENDENCY_UP = _metric("gauge", "dependency_up", "1 while it answers.", dependency=_ANY)
LOOP_LAG = _metric("gauge", "loop_lag_seconds", "How late the event loop last woke.")
LOOP_STALLS = _metric("counter", "loop_stalls_total", "Times the event loop was blocked longer than its limit.")
