"""How the command line shows a run: live progress on a terminal, plain lines elsewhere, JSON lines when asked.

Model text never reaches the terminal by this way; what is shown are names, counts and times.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text as Styled

from tracemend.cli.showing import inert
from tracemend.embedded.progress import Observer
from tracemend.kit.pump import PumpStats

_REFRESH_S = 0.2
_PLAIN_EVERY_S = 10.0


def observer_for(*, as_json: bool) -> Observer:
    """The observer that fits the terminal that we write to."""
    if as_json:
        return JsonLines()
    console = Console(stderr=True)
    return LiveProgress(console) if console.is_terminal else PlainLines(console)


class _Rates:
    """Rates over the phase so far."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def summary(self, pumps: Sequence[PumpStats], states: Mapping[str, int] | None) -> str:
        elapsed_s = max(time.monotonic() - self.started, 1e-6)
        parts: list[str] = []
        for pump in pumps:
            if pump.stage == "generator" and pump.num_new_tokens:
                parts.append(f"{pump.num_done} samples, {pump.num_new_tokens / elapsed_s:,.0f} tokens/s")
            if pump.num_replayed:
                parts.append(f"{pump.num_replayed} {pump.stage} results found again")
            if pump.num_retried:
                parts.append(f"{pump.num_retried} {pump.stage} retries")
            if pump.num_dead:
                parts.append(f"{pump.num_dead} {pump.stage} dead")
        money = sum(pump.money for pump in pumps)
        if money:
            parts.append(f"cost {money:,.2f}")
        parts += [f"{number} {state}" for state, number in sorted((states or {}).items())]
        return " · ".join(parts)


class LiveProgress:
    """A bar per phase, redrawn in place; finished phases stay above as one line each."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._live: Live | None = None
        self._task: Any = None
        self._name = ""
        self._detail = ""
        self._rates = _Rates()

    def phase(self, name: str, *, total: int | None = None, note: str = "") -> None:
        self._end()
        self._name, self._detail, self._rates = name, note, _Rates()
        self._task = self._bars.add_task(name, total=total)
        # A display of its own for each phase: one that is started again erases what was printed since.
        self._live = Live(console=self._console, refresh_per_second=1 / _REFRESH_S, transient=True)
        self._live.start()
        self._draw()

    def advance(self, done: int, *, pumps: Sequence[PumpStats] = (), states: Mapping[str, int] | None = None) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done)
            self._detail = self._rates.summary(pumps, states)
            self._draw()

    def training(self, step: int, num_steps: int, loss: float) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=step, total=num_steps)
            self._detail = f"loss {loss:.3f}"
            self._draw()

    def say(self, text: str) -> None:
        self._console.print(Padding(Styled(inert(text)), (0, 0, 0, 2)))

    def close(self, *, finished: bool = True) -> None:
        """End the display."""
        self._end(finished=finished)

    def _draw(self) -> None:
        table = Table.grid()
        table.add_row(self._bars)
        if self._detail:
            table.add_row(Padding(Styled(self._detail, style="dim"), (0, 0, 0, 2)))
        if self._live is not None:
            self._live.update(table)

    def _end(self, *, finished: bool = True) -> None:
        if self._live is None:
            return
        self._live.stop()
        self._live = None
        self._bars.remove_task(self._task)
        self._task = None
        elapsed_s = time.monotonic() - self._rates.started
        line = Styled("✓ ", style="green") if finished else Styled("■ ", style="yellow")
        line.append(self._name, style="default").append(f"  {elapsed_s:,.1f} s", style="dim")
        self._console.print(line)
        if self._detail:
            self._console.print(Padding(Styled(self._detail, style="dim"), (0, 0, 0, 2)))


class PlainLines:
    """A line when a phase begins and ends, and one every ten seconds between: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rates = _Rates()
        self._shown = 0.0
        self._name = ""
        self._total: int | None = None

    def phase(self, name: str, *, total: int | None = None, note: str = "") -> None:
        self._name, self._total, self._rates = name, total, _Rates()
        self._shown = time.monotonic()
        of = f" ({total})" if total else ""
        self.say(f"{name}{of}{': ' + note if note else ''}")

    def advance(self, done: int, *, pumps: Sequence[PumpStats] = (), states: Mapping[str, int] | None = None) -> None:
        if time.monotonic() - self._shown >= _PLAIN_EVERY_S:
            self._shown = time.monotonic()
            self.say(f"{self._name}: {done}/{self._total or '?'} · {self._rates.summary(pumps, states)}")

    def training(self, step: int, num_steps: int, loss: float) -> None:
        if step == num_steps or time.monotonic() - self._shown >= _PLAIN_EVERY_S:
            self._shown = time.monotonic()
            self.say(f"{self._name}: step {step}/{num_steps}, loss {loss:.3f}")

    def say(self, text: str) -> None:
        # A line of a log is not broken where a terminal would end.
        self._console.print(inert(text), markup=False, highlight=False, soft_wrap=True)

    def close(self, *, finished: bool = True) -> None:
        """Nothing is held open."""


class JsonLines:
    """One JSON object per event on standard output."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._started = time.monotonic()

    def phase(self, name: str, *, total: int | None = None, note: str = "") -> None:
        self._total, self._started = total, time.monotonic()
        self._write({"event": "phase", "phase": name, "total": total})

    def advance(self, done: int, *, pumps: Sequence[PumpStats] = (), states: Mapping[str, int] | None = None) -> None:
        elapsed_s = time.monotonic() - self._started
        new_tokens = sum(pump.num_new_tokens for pump in pumps)
        self._write(
            {
                "event": "progress",
                "done": done,
                "total": self._total,
                "states": dict(states or {}),
                "elapsed_s": round(elapsed_s, 1),
                "remaining_s": round(elapsed_s * (self._total - done) / done, 1) if self._total and done else None,
                "new_tokens": new_tokens,
                "tokens_per_s": round(new_tokens / elapsed_s, 1) if elapsed_s > 0 else None,
                "money": sum(pump.money for pump in pumps),
                "stages": {
                    pump.stage: {
                        "done": pump.num_done,
                        "found_again": pump.num_replayed,
                        "retried": pump.num_retried,
                        "dead": pump.num_dead,
                    }
                    for pump in pumps
                },
            }
        )

    def training(self, step: int, num_steps: int, loss: float) -> None:
        told = loss if math.isfinite(loss) else None  # JSON knows neither NaN nor infinity
        self._write({"event": "training", "step": step, "num_steps": num_steps, "loss": told})

    def say(self, text: str) -> None:
        self._write({"event": "message", "text": text})

    def close(self, *, finished: bool = True) -> None:
        """Nothing is held open."""

    def _write(self, event: dict[str, Any]) -> None:
        print(json.dumps(event, allow_nan=False), flush=True)
