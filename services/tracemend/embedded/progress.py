"""What a run tells about itself while it works; the command line shows it, tests and `--json` collect it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tracemend.kit.pump import PumpStats


class Observer(Protocol):
    """Told of everything a user may want to watch. Called often: must return at once."""

    def phase(self, name: str, *, total: int | None = None, note: str = "") -> None:
        """A phase begins; `total` is what `advance` counts towards."""
        ...

    def advance(self, done: int, *, pumps: Sequence[PumpStats] = (), states: Mapping[str, int] | None = None) -> None:
        """The current phase has finished `done` of its total."""
        ...

    def training(self, step: int, num_steps: int, loss: float) -> None:
        """A training step has ended."""
        ...

    def say(self, text: str) -> None:
        """One line for the user: a warning, a file that was written."""
        ...

    def close(self, *, finished: bool = True) -> None:
        """The run has ended, or was stopped before it had `finished`: free the terminal."""
        ...


class Silent:
    """An observer that shows nothing."""

    def phase(self, name: str, *, total: int | None = None, note: str = "") -> None: ...

    def advance(
        self, done: int, *, pumps: Sequence[PumpStats] = (), states: Mapping[str, int] | None = None
    ) -> None: ...

    def training(self, step: int, num_steps: int, loss: float) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self, *, finished: bool = True) -> None: ...
