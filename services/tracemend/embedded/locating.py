"""Where a char of a reasoning lies among its response ids: what the judges ask of whoever knows the tokenizer."""

from __future__ import annotations

from collections.abc import Callable

from tracemend.records import Trajectory
from tracemend.traces.template import ChatTemplate


class TemplateLocator:
    """The judges' `Locator` over the template of the target that is being sampled."""

    def __init__(self, template: Callable[[], ChatTemplate | None]) -> None:
        """`template` is asked for at every cue; it gives None where the target's engine knows no token ids."""
        self._template = template

    def cut(self, trajectory: Trajectory, char: int) -> int:
        template = self._template()
        if template is None:
            return -1
        return template.cut_at(trajectory.token_ids, reasoning=trajectory.reasoning, char=char)
