"""What may be configured of measuring: the statistics behind every figure."""

from __future__ import annotations

from pydantic import Field

from tracemend.kit.settings import Section


class StatisticsSettings(Section):
    """How intervals are made. Prompts are the clusters: a prompt's samples are drawn together."""

    confidence: float = Field(0.95, gt=0.5, lt=1)
    resamples: int = Field(2000, ge=100)
    seed: int = 0
