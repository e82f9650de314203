"""One arm's part of a run, wanted by itself: its training, or its measurement.

Said by whoever orders a job that does not end the run, done by `pipeline.finish_run`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Train `arm`, or measure it."""

    arm: str
    """Of the run file; `base` for the target itself, which can only be measured."""
    measures: bool = False
    """Measure the arm as it is, rather than train it: an arm that is not trained yet cannot be measured."""
    dataset: str = ""
    """Id of the dataset version that the training is meant for; any where it is empty."""
