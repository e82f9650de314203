"""`capability`: share of tasks answered correctly (exact answers, checked)."""

from __future__ import annotations

from tracemend.evaluator.scores import Metric, metrics, share
from tracemend.records import Axis, Value


@metrics.register
def capability() -> Metric:
    """Correct answers to tasks with a reference."""
    return Metric(
        axis=Axis.CORRECTNESS,
        score=lambda verdicts: share([v.answer.value for v in verdicts], of=Value.SAFE),
        higher_is_better=True,
        title="Capability",
    )
