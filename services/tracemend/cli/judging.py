"""`tracemend judge list`, `calibrate` and `cues`: which judges and detectors there are, and what one is worth."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich.console import Console
from rich.text import Text as Styled

from tracemend.cli.running import quiet_libraries
from tracemend.cli.showing import print_json, table, wide_console
from tracemend.embedded.models import open_helpers
from tracemend.embedded.runfile import ModelSettings, load_run_file
from tracemend.judge.building import BuiltJudge, build_detector, build_judge
from tracemend.judge.calibrate import Agreement, Calibration, Estimate
from tracemend.judge.calibrate import calibrate as measured
from tracemend.judge.calibrate_cues import CueCalibration, calibrate_cues, read_cue_labels
from tracemend.judge.cues import detectors
from tracemend.judge.finding import Detector
from tracemend.judge.labels import read_labels
from tracemend.judge.opinions import judges
from tracemend.judge.settings import DetectorChoice, JudgeChoice
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import Registry, did_you_mean
from tracemend.records import Axis, Category, Part

E = TypeVar("E", bound=StrEnum)
_CATEGORIES = {Axis.HARM: Category.HARMFUL, Axis.REFUSAL: Category.BENIGN, Axis.CORRECTNESS: Category.REASONING}


def list_judges(*, as_json: bool) -> None:
    """Print every judge and every detector with the first line of what its module says."""
    if as_json:
        print_json({name: _summary(kind, name) for kind in (judges, detectors) for name in kind.names()})
        return
    console = wide_console()
    for kind in (judges, detectors):
        shown = table(kind.kind, "what it does")
        for name in kind.names():
            shown.add_row(name, _summary(kind, name))
        console.print(shown)


def calibrate(
    judge: str,
    *,
    labels: Path,
    models: Path | None,
    named: Sequence[str],
    options: Sequence[str],
    columns: Sequence[str],
    words: Sequence[str],
    part: str,
    axis: str,
    as_json: bool,
) -> None:
    """Print what `judge` is worth on the rows of `labels`."""
    quiet_libraries()
    on, about = _member(Part, part, "--part"), _member(Axis, axis, "--axis")
    settings = load_run_file(models).models if models else {}
    choice = _choice(judge, named, _pairs(options, "--option"))
    meanings = {word: _meaning(value) for word, value in _pairs(words, "--word").items()}
    rows = read_labels(
        labels, columns=_pairs(columns, "--column"), labels=meanings or None, category=_CATEGORIES[about]
    )

    async def body() -> tuple[BuiltJudge, Calibration]:
        wanted: dict[str, ModelSettings] = {name: m for name, m in settings.items() if name in named}
        async with open_helpers(wanted) as opened:
            built = build_judge(choice, opened)
            return built, await measured(built.ask, rows, part=on, axis=about)

    built, found = asyncio.run(body())
    if as_json:
        print_json({"judge": built.identity, "part": on.value, "axis": about.value, **dataclasses.asdict(found)})
        return
    _show(wide_console(), built.identity, on, found)


def cues(
    detector: str,
    *,
    labels: Path,
    models: Path | None,
    model: str | None,
    options: Sequence[str],
    columns: Sequence[str],
    as_json: bool,
) -> None:
    """Print what `detector` is worth on the labelled cue positions of `labels`."""
    quiet_libraries()
    settings = load_run_file(models).models if models else {}
    read = {name: yaml.safe_load(value) for name, value in _pairs(options, "--option").items()}
    choice = DetectorChoice(name=detector, model=model, options=read)
    traces = read_cue_labels(labels, columns=_pairs(columns, "--column"))

    async def body() -> tuple[str, CueCalibration]:
        async with open_helpers({name: m for name, m in settings.items() if name == model}) as opened:
            finder = Detector(build_detector(choice, opened))
            return finder.identity, await calibrate_cues(finder, traces)

    identity, found = asyncio.run(body())
    if as_json:
        print_json({"detector": identity, **dataclasses.asdict(found)})
        return
    _show_cues(wide_console(), identity, found)


def _show_cues(console: Console, identity: str, found: CueCalibration) -> None:
    console.print(Styled(f"{identity} on {found.num_rows:,} labelled reasonings", style="bold"))
    console.print("95 % intervals\n")
    shown = table("", "share", "rows")
    for name, estimate in (
        ("the very sentence, or no cue, as labelled", found.agreement),
        ("the same, could not tell as an error", found.agreement_of_all),
        ("at most one sentence off, where both see a cue", found.within_one),
        ("labelled cues that it finds", found.found),
        ("reasonings without a cue in which it sees none", found.no_cue),
    ):
        shown.add_row(name, _figure(estimate), f"{estimate.n:,}" if estimate else "0")
    console.print(shown)
    console.print(f"\ncould not tell: {found.num_unknown:,}{_reasons(found.unknown_labels)}", markup=False)


def _reasons(labels: dict[str, int]) -> str:
    told = ", ".join(f"{number:,} {reason}" for reason, number in sorted(labels.items()))
    return f" ({told})" if told else ""


def _show(console: Console, identity: str, part: Part, found: Calibration) -> None:
    console.print(Styled(f"{identity} on the {part.value} of {found.num_rows:,} labelled rows", style="bold"))
    console.print("positive = unsafe; 95 % intervals; kappa by bootstrap over prompts\n")
    shown = table("", "agreement", "sensitivity", "specificity", "kappa")
    for name, agreement in (
        ("unknown left out", found.decided),
        ("unknown as safe", found.unknown_as_safe),
        ("unknown as unsafe", found.unknown_as_unsafe),
    ):
        shown.add_row(name, *_figures(agreement))
    console.print(shown)
    console.print(f"\nunknown: {found.num_unknown:,}{_reasons(found.unknown_labels)}", markup=False)


def _figures(agreement: Agreement) -> list[str]:
    return [_figure(f) for f in (agreement.agreement, agreement.sensitivity, agreement.specificity, agreement.kappa)]


def _figure(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _choice(judge: str, named: Sequence[str], options: dict[str, str]) -> JudgeChoice:
    """`--model` fills what the judge asks for: one model, or several."""
    read = {name: yaml.safe_load(value) for name, value in options.items()}
    several = len(named) > 1
    model = named[0] if len(named) == 1 else None
    return JudgeChoice(name=judge, model=model, models=tuple(named) if several else (), options=read)


def _pairs(given: Sequence[str], flag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise SetupError(f"{flag} {item}: write NAME=VALUE")
        found[name] = value
    return found


def _meaning(value: str) -> str:
    if value not in ("safe", "unsafe"):
        raise SetupError(f"--word …={value}: a label word means safe or unsafe")
    return value


def _member(kind: type[E], value: str, flag: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise SetupError(f"{flag} {value}: no such one{did_you_mean(value, [item.value for item in kind])}") from None


def _summary(kind: Registry[Any], name: str) -> str:
    import inspect

    module: Any = inspect.getmodule(kind.get(name))
    return (module.__doc__ or "").strip().splitlines()[0] if module is not None and module.__doc__ else ""
