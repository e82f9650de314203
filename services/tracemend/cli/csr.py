"""`tracemend csr`: where traces turn, as tables, pictures and a pool of mined triggers.

Steps are numbers; what models wrote is shown and drawn only by --reveal, and written where --triggers asks for it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from rich.console import Console

from tracemend.cli.console import observer_for
from tracemend.cli.running import cache_folder, until_done
from tracemend.cli.showing import inert, plain, print_json, table, wide_console
from tracemend.embedded.csr import Analysis, Asked, Measured, analyse
from tracemend.embedded.whole_files import replace_text
from tracemend.evaluator.continuation.curves import Change, Point
from tracemend.evaluator.continuation.mining import MinedTrigger
from tracemend.evaluator.continuation.plot import Caption, draw
from tracemend.evaluator.continuation.sets import MeanChange
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.kit.errors import SetupError

FIGURES = ("svg", "png", "none")
_CONFIDENCE = 0.95
_NO_CUES = "No cues: the run file names no judge.detector"
_ID_CHARS = 18  # enough to name a trace again: beginnings of ids will do


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is made of an analysis, beside the tables."""

    figures: str = "svg"
    triggers: Path | None = None
    min_prompts: int = 1
    reveal: bool = False
    as_json: bool = False


def csr(folder: Path, asked: Asked, output: Output, **settings: Any) -> None:
    """Measure the traces, or go on with it; print what is found and draw each curve into DIR/csr."""
    if bool(asked.trajectories) == bool(asked.uncertain):
        raise SetupError("name trajectories, or say --uncertain N for N prompts with mixed samples")
    if output.triggers is not None and output.triggers.suffix not in (".yaml", ".yml"):
        raise SetupError(f"--triggers {output.triggers}: a trigger pool is a .yaml file")
    if output.triggers is not None and not _is_writable(output.triggers):
        raise SetupError(f"--triggers {output.triggers}: no file can be written there")
    if output.figures not in FIGURES:
        raise SetupError(f"--figures {output.figures}: choose {', '.join(FIGURES)}")
    chosen = _settings(settings)
    observer = observer_for(as_json=False)  # on standard error: with --json, standard output is one document

    async def work() -> Analysis:
        return await analyse(folder, asked, chosen, cache=cache_folder(), observer=observer)

    show(until_done(work, observer=observer, command=_command(folder, asked, settings, output)), folder, output)


def show(found: Analysis, folder: Path, output: Output) -> None:
    """Print what was found, draw the curves into `folder`/csr, write the pool."""
    files = _draw(found, folder / "csr", output) if output.figures != "none" else []
    mined = [trigger for trigger in found.mined if trigger.num_prompts >= output.min_prompts]
    if output.as_json:
        print_json({**plain(_document(found), shows_text=output.reveal), "figures": [str(path) for path in files]})
    else:
        _tell(wide_console(), found, mined, files, reveal=output.reveal)
    if output.triggers is not None:
        if not mined:
            raise SetupError(f"nothing to write to {output.triggers}: no sentence turned {output.min_prompts} prompts")
        replace_text(output.triggers, _pool(found, mined))


def _is_writable(path: Path) -> bool:
    return os.access(path.absolute().parent, os.W_OK | os.X_OK) and not path.is_dir()


def _settings(given: dict[str, Any]) -> ContinuationSettings:
    try:
        return ContinuationSettings(**given)
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, e['loc'])) or 'thresholds'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise SetupError("; ".join(problems)) from None


def _command(folder: Path, asked: Asked, settings: dict[str, Any], output: Output) -> str:
    """The call that goes on with this one: what differs from the defaults is said."""
    which = [*asked.trajectories]
    if asked.uncertain:
        which += ["--uncertain", str(asked.uncertain), "--per-side", str(asked.per_side)]
        which += ["--least-share", str(asked.least_share)]
    usual = {**ContinuationSettings().model_dump(), "figures": "svg", "min_prompts": 1, "triggers": None}
    given = {**settings, "figures": output.figures, "min_prompts": output.min_prompts, "triggers": output.triggers}
    how = ["--arm", asked.arm]
    for name, value in given.items():
        how += [f"--{name.replace('_', '-')}", str(value)] if value != usual[name] else []
    how += ["--reveal"] * output.reveal + ["--json"] * output.as_json
    return shlex.join(["tracemend", "csr", str(folder), *which, *how])


def _document(found: Analysis) -> dict[str, Any]:
    """The analysis as records, with the ratio and interval of every point written out."""
    traces = [
        {
            "curve": trace.curve,
            "ratios": [
                {"token": p.token, "ratio": p.reasoning.ratio, "interval": list(p.reasoning.interval(_CONFIDENCE))}
                for p in trace.curve.points
            ],
            "steps": trace.steps,
            "turning": trace.turning,
            "at_cue": trace.at_cue,
            "at_trigger": trace.at_trigger,
        }
        for trace in found.traces
    ]
    scalar = {
        name: getattr(found, name)
        for name in (
            "run", "arm", "model", "judge", "detector", "synthetic", "summary", "mined", "num_continuations",
            "num_prompt_tokens", "num_cached_tokens", "num_new_tokens",
        )
    }  # fmt: skip
    return {**scalar, "settings": found.settings.model_dump(mode="json"), "traces": traces}


# ------------------------------------------------------------------------------------------------ files


def _draw(found: Analysis, folder: Path, output: Output) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for trace in found.traces:
        path = folder / f"{trace.curve.trajectory}.{output.figures}"
        words = [inert(step.reveal()) for step in trace.steps] if output.reveal else []
        title = (
            f"{trace.curve.trajectory} · reasoning {trace.curve.value.value} · {found.settings.continuations} per place"
        )
        draw(trace.curve, found.settings, Caption(title=title, synthetic=found.synthetic, words=words), path)
        paths.append(path)
    return paths


def _pool(found: Analysis, mined: Sequence[MinedTrigger]) -> str:
    """A trigger pool as the corrector reads it."""
    entries = [
        {
            "id": trigger.id,
            "text": trigger.text.reveal(),
            "kind": "safety",
            "num_prompts": trigger.num_prompts,
            "num_traces": trigger.num_traces,
            "mean_rise": round(trigger.mean_rise, 3),
        }
        for trigger in mined
    ]
    origin = "the proving ground (SYNTHETIC)" if found.synthetic else found.model
    return (
        f"# Sentences in which traces turned to safety, the ones that turned the most prompts first.\n"
        f"# Mined by tracemend csr in run {found.run} from {origin}. Read them before use: a model wrote them.\n"
        + yaml.safe_dump(entries, allow_unicode=True, sort_keys=False, width=1000)
    )


# ------------------------------------------------------------------------------------------------ tables


def _tell(
    console: Console, found: Analysis, mined: Sequence[MinedTrigger], files: Sequence[Path], *, reveal: bool
) -> None:
    if found.synthetic:
        console.print("SYNTHETIC: figures of the proving ground say nothing about real models", style="yellow")
    if len(found.traces) == 1:
        _tell_places(console, found.traces[0], reveal=reveal)
    else:
        _tell_traces(console, found.traces)
    console.print()
    for line in [*(_of_one(found) if len(found.traces) == 1 else _of_set(found)), _spent(found)]:
        console.print(line, markup=False)
    _tell_mined(console, mined, reveal=reveal)
    if files:
        console.print(f"\nPictures: {files[0].parent} ({len(files)})", markup=False, soft_wrap=True)


def _tell_places(console: Console, trace: Measured, *, reveal: bool) -> None:
    numbers = ("steps kept", "token", "S", "safe", "unsafe", "unknown")
    shown = table(*numbers, "interval", "", *(["the step"] if reveal else []), right=numbers)
    for point in trace.curve.points:
        low, high = point.reasoning.interval(_CONFIDENCE)
        step = trace.curve.step_of(point.token)
        counts = point.reasoning
        row = [str(step), str(point.token), f"{counts.ratio:.2f}"]
        row += [str(n) for n in (counts.num_safe, counts.num_unsafe, counts.num_unknown)]
        row += [f"[{low:.2f}, {high:.2f}]", ", ".join(_marks(trace, point))]
        row += [inert(trace.steps[step - 1].reveal().strip()) if step else ""] if reveal else []
        shown.add_row(*row)
    console.print(shown)


def _marks(trace: Measured, point: Point) -> Iterator[str]:
    curve = trace.curve
    for step, name in ((curve.cue, "cue"), (curve.trigger, "trigger")):
        if step > 0 and curve.bounds[step] == point.token:
            yield name
    if trace.turning.safe == point.token:
        yield "i⁺"
    if trace.turning.unsafe == point.token:
        yield "i⁻"


def _tell_traces(console: Console, traces: Sequence[Measured]) -> None:
    numbers = ("steps", "cue", "i⁻", "i⁺")
    shown = table("trajectory", "verdict", *numbers, "S at cue", "S at trigger", right=numbers)
    for trace in traces:
        curve = trace.curve
        cue = "?" if curve.cue < 0 else _place(curve.bounds[curve.cue - 1] if curve.cue else None)
        shown.add_row(
            curve.trajectory[:_ID_CHARS],
            curve.value.value,
            str(curve.num_steps),
            cue,
            _place(trace.turning.unsafe),
            _place(trace.turning.safe),
            _change(trace.at_cue),
            _change(trace.at_trigger),
        )
    console.print(shown)
    console.print("cue, i⁻ and i⁺: response tokens kept; *: a change that its interval decides", style="dim")


def _place(token: int | None) -> str:
    return "–" if token is None else str(token)


def _change(change: Change | None) -> str:
    return (
        "–"
        if change is None
        else f"{change.before.ratio:.2f} → {change.after.ratio:.2f}{'*' if change.is_drop or change.is_rise else ''}"
    )


def _of_one(found: Analysis) -> Iterator[str]:
    (trace,) = found.traces
    yield f"{trace.curve.trajectory}: reasoning {trace.curve.value.value}"
    for name, step, change in (
        ("first cue", trace.curve.cue, trace.at_cue),
        ("trigger", trace.curve.trigger, trace.at_trigger),
    ):
        if change is not None:
            interval = f"{change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}]"
            yield f"S before and after the {name} (step {step}): {_change(change)} ({interval})"
    for name, token in (("safe", trace.turning.safe), ("unsafe", trace.turning.unsafe)):
        if token is not None:
            yield f"{name.capitalize()} turning point: {token} tokens kept, in step {trace.curve.step_of(token)}"
    if not found.detector:
        yield _NO_CUES


def _of_set(found: Analysis) -> Iterator[str]:
    summary = found.summary
    num_safe, num_unsafe = (summary.num_traces[value] for value in ("safe", "unsafe"))
    yield f"Safe traces with a safe turning point before their end: {summary.num_safe_turns} of {num_safe}"
    yield f"Unsafe traces with an unsafe one: {summary.num_unsafe_turns} of {num_unsafe}"
    if found.detector:
        yield f"Unsafe traces with a compliance cue: {summary.num_cues} of {num_unsafe}"
    else:
        yield _NO_CUES
    r = summary.correlation
    if r is not None:
        interval = "" if r.low is None or r.high is None else f" [{r.low:.2f}, {r.high:.2f}]"
        yield (
            f"First cue against unsafe turning point: r = {r.r:.2f}{interval} over {r.n} traces of {r.num_prompts} "
            f"prompts; {summary.num_near} within a step"
        )
    for name, mean in (("first cue", summary.at_cue), ("trigger", summary.at_trigger)):
        if mean is not None:
            yield f"S before and after the {name}: {_mean(mean)}"


def _spent(found: Analysis) -> str:
    share = found.num_cached_tokens / found.num_prompt_tokens if found.num_prompt_tokens else 0.0
    return (
        f"{found.num_continuations:,} continuations, {found.num_new_tokens:,} new tokens; {share:.0%} of "
        f"{found.num_prompt_tokens:,} prompt tokens came from a cache"
    )


def _mean(mean: MeanChange) -> str:
    change = mean.change
    return (
        f"{mean.before:.2f} → {mean.after:.2f} ({change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}]); "
        f"clear by itself in {mean.num_significant} of {mean.n} traces"
    )


def _tell_mined(console: Console, mined: Sequence[MinedTrigger], *, reveal: bool) -> None:
    if not mined:
        return
    numbers = ("prompts", "traces", "mean rise of S")
    shown = table("mined trigger", *numbers, "sentence", right=numbers)
    for trigger in mined:
        words = inert(trigger.text.reveal()) if reveal else trigger.text.label()
        shown.add_row(trigger.id, str(trigger.num_prompts), str(trigger.num_traces), f"{trigger.mean_rise:+.2f}", words)
    console.print()
    console.print(shown)
