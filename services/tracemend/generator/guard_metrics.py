"""What a guard server counts, as Prometheus reads it. Numbers alone: no text, no ids of requests."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tracemend.generator.guarding import Tally

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class GuardMetrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"tracemend_guard_{name}", what, labels, registry=self._registry)

        self._requests = counter(
            "requests", "HTTP requests by path and status (499: the client left)", "path", "status"
        )
        self._responses = counter("responses", "Finished responses by how the guard let them end", "end")
        self._cues = counter("cues", "Compliance cues found")
        self._interventions = counter("interventions", "Cues replaced by a trigger")
        self._looks = counter("looks", "Times the detector was asked, by what it said", "result")
        self._tokens = counter("tokens", "Tokens of the target", "kind")
        self._look_seconds = counter("look_seconds", "Seconds spent waiting for the detector")
        self._seconds = Histogram(
            "tracemend_guard_response_seconds",
            "Seconds from a request to the end of its reply",
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._busy = Gauge("tracemend_guard_requests_in_progress", "Being written or waiting", registry=self._registry)

    def request(self, path: str, status: int) -> None:
        """Count a reply to a request for `path`."""
        self._requests.labels(path, str(status)).inc()

    def response(self, tally: Tally, *, num_tokens: int, seconds: float) -> None:
        """Count a finished response of `num_tokens` tokens."""
        end = "refused" if tally.is_refused else "intervened" if tally.num_interventions else "untouched"
        self._responses.labels(end).inc()
        self._cues.inc(tally.num_cues)
        self._interventions.inc(tally.num_interventions)
        self._looks.labels("unknown").inc(tally.num_unknown)
        self._looks.labels("cue").inc(tally.num_cues)
        self._looks.labels("clear").inc(tally.num_looks - tally.num_unknown - tally.num_cues)
        kinds = {
            "prompt": tally.num_prompt_tokens,
            "cached": tally.num_cached_tokens,
            "response": num_tokens,
            "discarded": tally.num_discarded_tokens,
            "inserted": tally.num_inserted_tokens,
        }
        for kind, number in kinds.items():
            self._tokens.labels(kind).inc(number)
        self._look_seconds.inc(tally.look_seconds)
        self._seconds.observe(seconds)

    def busy(self, number: int) -> None:
        """How many responses are being written or waiting."""
        self._busy.set(number)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)
