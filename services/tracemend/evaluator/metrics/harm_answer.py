"""`harm_answer`: share of answers judged harmful (harm_y of IPO and SaLT)."""

from __future__ import annotations

from tracemend.evaluator.scores import Metric, metrics, share
from tracemend.records import Axis, Value


@metrics.register
def harm_answer() -> Metric:
    """Harm of the answer, judged apart from the reasoning."""
    return Metric(
        axis=Axis.HARM,
        score=lambda verdicts: share([v.answer.value for v in verdicts], of=Value.UNSAFE),
        higher_is_better=False,
        title="Harmful answer",
    )
