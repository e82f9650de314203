"""The base of every configuration section, frozen and strict about names, and the section that several slices share.

Sections are pydantic models at the edge (run files, environment); inside, code passes them on as plain frozen values.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tracemend.kit.ids import digest_of
from tracemend.records import Sampling


class Section(BaseModel):
    """One section of a run file: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def digest(self) -> str:
        """Identity of the section: stages hash only the section they read."""
        return digest_of(self.model_dump(mode="json"))


class SamplingSettings(Section):
    """How tokens are drawn; the defaults are the ones that UnsafeChain's and IPO's evaluations share."""

    temperature: float = Field(0.6, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    repetition_penalty: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(8192, gt=0)

    def record(self) -> Sampling:
        """The record that requests carry."""
        return Sampling(**self.model_dump())
