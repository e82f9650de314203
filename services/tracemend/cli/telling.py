"""`tracemend trace`: one row's whole story on the terminal.

Model text is shown when asked for and never obeyed by the terminal; otherwise digests and lengths stand for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text as Styled

from tracemend.cli.showing import inert, plain, print_json, wide_console
from tracemend.corrector.requests import FORK
from tracemend.embedded.looking import open_run
from tracemend.embedded.story import Story, tell
from tracemend.records import Judgement, Outcome, Trajectory, Verdict
from tracemend.redaction import Text

_NO_CUE = {0: "no cue", -1: "cue unknown"}
_COLOURS = {"safe": "green", "unsafe": "red", "unknown": "yellow"}


def trace(folder: Path, wanted: str, *, shows_text: bool, as_json: bool) -> None:
    """Print the story of the row that `wanted` belongs to."""

    async def body() -> Story:
        async with open_run(folder) as opened:
            return await tell(opened, wanted)

    story = asyncio.run(body())
    if as_json:
        print_json(plain(story, shows_text=shows_text))
        return
    _Teller(wide_console(), story, shows_text=shows_text).tell()


class _Teller:
    """Prints one story from its beginning to its end."""

    def __init__(self, console: Console, story: Story, *, shows_text: bool) -> None:
        self._console = console
        self._story = story
        self._shows_text = shows_text

    def tell(self) -> None:
        self._prompt()
        self._section("samples", [self._verdict(v) for v in self._story.samples], "none yet")
        for title, made in (("rewrites", self._story.rewrites), ("forks", self._story.forks)):
            if made:
                self._console.print(Styled(f"\n{title}", style="bold"))
            for verdict in made:
                self._console.print(Padding(self._verdict(verdict), (0, 0, 0, 2)))
                self._texts(verdict.trajectory)
        self._outcomes()
        rows = [Styled(f"{p.arm}: row {p.row:,} ({p.example})") for p in self._story.published]
        self._section("published", rows, "in no dataset")
        if not self._shows_text:
            self._console.print(Styled("\nText is hidden; --show-text shows it.", style="dim"))

    def _prompt(self) -> None:
        prompt, row = self._story.prompt, self._story.row
        self._console.print(Styled(prompt.id, style="bold"))
        where = f"row {row:,}" if row else "a benchmark's prompt"
        facts = [
            where,
            prompt.category.value,
            prompt.source or "no source",
            prompt.licence or "no licence",
            prompt.split,
        ]
        facts += [f"{name} {value}" for name, value in sorted(prompt.tags.items())]
        self._console.print(Padding(Styled(inert(" · ".join(facts)), style="dim"), (0, 0, 0, 2)))
        self._text("prompt", prompt.text)
        if prompt.reference:
            self._text("expected", prompt.reference)

    def _section(self, title: str, lines: list[Styled], otherwise: str) -> None:
        self._console.print(Styled(f"\n{title}", style="bold"))
        for line in lines or [Styled(otherwise, style="dim")]:
            self._console.print(Padding(line, (0, 0, 0, 2)))
        if title == "samples" and self._shows_text:
            for verdict in self._story.samples:
                self._console.print(Padding(Styled(f"sample {verdict.trajectory.sample}", style="bold"), (0, 0, 0, 2)))
                self._texts(verdict.trajectory)

    def _outcomes(self) -> None:
        lines = [_outcome(outcome) for outcome in self._story.outcomes]
        if self._story.num_open:
            lines.append(Styled(f"{self._story.num_open} units are still open", style="yellow"))
        self._section("outcomes", lines, "none: no arm works on this prompt")

    def _verdict(self, verdict: Verdict) -> Styled:
        line = Styled(f"{_name(verdict.trajectory)}  ")
        for name, judgement in (("reasoning", verdict.reasoning), ("answer", verdict.answer), ("whole", verdict.whole)):
            if "not_judged" not in judgement.labels:
                line.append(f"{name} ").append(*_value(judgement)).append("  ")
        line.append(" · ".join(_facts(verdict)), style="dim")
        return line

    def _texts(self, trajectory: Trajectory) -> None:
        if self._shows_text:
            self._text("reasoning", trajectory.reasoning)
            self._text("answer", trajectory.answer)

    def _text(self, name: str, text: Text) -> None:
        shown = inert(text.reveal()) if self._shows_text else text.label()
        self._console.print(Padding(Styled(f"{name}: {shown}"), (0, 0, 0, 4 if self._shows_text else 2)))


def _name(trajectory: Trajectory) -> str:
    made = trajectory.intervention
    if made is None:
        return f"sample {trajectory.sample}"
    variant = f" {made.variant}" if made.variant else ""
    if made.kind == FORK:
        return f"round {trajectory.round} of sample {trajectory.sample}: cut at token {made.cut_token:,}, then{variant}"
    return f"{made.strategy}{variant} of sample {trajectory.sample}, attempt {made.attempt}"


def _facts(verdict: Verdict) -> Iterator[str]:
    trajectory = verdict.trajectory
    yield f"{trajectory.num_new_tokens:,} tokens"
    cue = verdict.cue
    if cue is not None:
        yield f"cue at step {cue.step} of {cue.num_steps}" if cue.step > 0 else _NO_CUE[cue.step]
    if not trajectory.is_finished:
        yield f"{trajectory.finish.value}, {trajectory.parse.value}"
    made = trajectory.intervention
    if made is not None:
        yield from (f"{name} {score}" for name, score in made.scores.items())
        if made.failure:
            yield f"failed: {made.failure}"
    yield trajectory.id


def _value(judgement: Judgement) -> tuple[str, str]:
    value = judgement.value.value
    labels = f" ({inert(', '.join(judgement.labels))})" if judgement.labels else ""
    return f"{value}{labels}", _COLOURS[value]


def _outcome(outcome: Outcome) -> Styled:
    unit = outcome.unit
    which = f" sample {unit.sample}" if unit.sample >= 0 else ""
    which += f" {unit.variant}" if unit.variant else ""
    line = Styled(f"{unit.arm}{which}: ").append(outcome.state.value, style="bold")
    if outcome.reason:
        line.append(f" ({outcome.reason})")
    return line.append(f"  {outcome.id}", style="dim")
