"""What a decision can be: the unit ends, a strong model is asked, or the target goes on from a cut.

Strategies return actions and the stage carries them out. An action is plain data, so deciding stays pure and a table of
decisions can be tested without a bus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tracemend.corrector.triggers import Trigger
from tracemend.records import OutcomeState, Unit, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclude:
    """The unit ends here."""

    unit: Unit
    state: OutcomeState
    reason: str = ""
    """Short code that counts and reports group by; empty where the state says it all."""
    final: Verdict | None = None
    """The verdict on the trajectory to train on; set for `KEPT` and `CORRECTED`, and for these alone."""
    original: Verdict | None = None
    """The verdict on the target's own trajectory that the final one replaces, or is set against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTeacher:
    """A strong model writes a text for the unit; its verdict comes back for another decision."""

    unit: Unit
    verdict: Verdict
    """On the target's own trajectory that the text is to replace."""
    strategy: str
    """The plug-in that words the request and decides on the reply."""
    attempt: int
    """Counted from 1 and on through all epochs, so that a redriven unit is written anew."""
    feedback: str = ""
    """Reason code of why the attempt before was not accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continue:
    """The target goes on by itself from a cut of a trajectory and a trigger; the verdict on that fork comes back."""

    unit: Unit
    verdict: Verdict
    """On the trajectory that is cut: the target's own, or the fork of the round before."""
    strategy: str
    trigger: Trigger
    cut_token: int
    """h: response ids that are kept."""
    round: int
    """Interventions on the way to the fork, this one included."""
    attempt: int
    """The round, counted on through epochs, so that a redriven unit is continued anew."""


Action: TypeAlias = Conclude | AskTeacher | Continue
