"""The base of every configuration section: frozen, strict about names, helpful about mistakes.

Sections are pydantic models at the edge (run files, environment); inside, code passes them on as plain frozen values.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tracemend.kit.ids import digest_of


class Section(BaseModel):
    """One section of a run file: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def digest(self) -> str:
        """Identity of the section: stages hash only the section they read."""
        return digest_of(self.model_dump(mode="json"))
