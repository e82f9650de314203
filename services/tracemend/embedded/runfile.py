"""The run file: one YAML document that says what a run does, validated with errors that point at the line.

Composed of the slices' own sections, so that each setting is documented and checked where it is used. The same file
runs in one process and on a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tracemend.corrector.settings import CorrectSettings, KeepSettings, SelectSettings
from tracemend.evaluator.service import HEADLINE
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.generator.settings import GuardSettings, TargetSettings
from tracemend.ingestion.settings import IngestionSettings, PromptsSettings
from tracemend.judge.settings import JudgeSettings
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean
from tracemend.kit.settings import SamplingSettings, Section
from tracemend.trainer.settings import AssembleSettings, TrainSettings

_ARM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

BASE = "base"
"""The arm that every run has: the target as it is."""


JudgeRole: TypeAlias = Literal["harm", "refusal", "correctness", "verifier"]


class ModelSettings(Section):
    """A model beside the target: a teacher, a guard, a rubric judge."""

    engine: str
    """`openai:MODEL@URL`, `vllm:FOLDER`, `transformers:FOLDER` or `scripted:NAME`; `${NAME}` in it stands for a
    variable of the environment, filled in when the model is opened."""
    options: dict[str, object] = Field(default_factory=dict)


class BenchmarkSettings(Section):
    """Prompts to measure on, under the name of the split that the report shows them as."""

    prompts: PromptsSettings
    split: str = ""
    """Empty for the benchmark's own name."""
    limit: int | None = Field(None, ge=1)


class EvaluateSettings(Section):
    """What every arm is measured on, with identical decoding for all of them."""

    samples: int = Field(1, ge=1)
    """K samples per prompt; Safe@1, ConsSafe@K and Safe@K want more than one."""
    sampling: SamplingSettings | None = None
    """None for the target's own."""
    benchmarks: dict[str, BenchmarkSettings] = Field(min_length=1)
    validation: dict[str, BenchmarkSettings] = Field(default_factory=dict)
    """What sweeps choose by; never what the report shows."""
    statistics: StatisticsSettings = Field(default_factory=StatisticsSettings)
    calibration: dict[JudgeRole, str] = Field(default_factory=dict)
    """Judge to the file that `tracemend judge calibrate … --json` wrote of it: the report then knows its errors."""


class LimitSettings(Section):
    """Where a run stops by itself; started again with a higher limit, it goes on."""

    tokens: int | None = Field(None, gt=0)
    money: float | None = Field(None, gt=0)
    hours: float | None = Field(None, gt=0)
    unfinished_prompts: int = Field(512, ge=1)
    """W: prompts admitted into the loop at once."""


class ResourceSettings(Section):
    """What the run may use."""

    preset: Literal["auto", "1x24gb", "1x80gb", "8xh100"] = "auto"
    """The machine: `auto` for what the engines find, or one that `embedded.resources` has defaults for."""
    concurrency: int = Field(256, ge=1)
    """Requests in flight per engine."""


class ArmSettings(Section):
    """One way to select, correct, assemble and train; the base arm has none of these."""

    from_: str = Field(BASE, alias="from")
    """The arm whose checkpoint this one starts from."""
    select: SelectSettings = Field(default_factory=SelectSettings)
    correct: CorrectSettings | None = None
    keep: KeepSettings = Field(default_factory=KeepSettings)
    assemble: AssembleSettings = Field(default_factory=AssembleSettings)
    train: TrainSettings | None = None
    guard: GuardSettings | None = None
    """Instead of all this: the same weights, measured while a guard watches them write."""

    @model_validator(mode="after")
    def _guard_stands_alone(self) -> ArmSettings:
        if self.guard is not None and (self.correct is not None or self.train is not None):
            raise ValueError("a guard trains nothing: give it an arm of its own, `from` the arm whose model it guards")
        return self

    @model_validator(mode="after")
    def _training_needs_rows(self) -> ArmSettings:
        if self.train is not None and self.correct is None and not self.assemble.units_of:
            raise ValueError("an arm that trains needs a `correct` section to make its rows, or assemble.units_of")
        if self.correct is not None and self.assemble.units_of:
            raise ValueError("assemble.units_of takes another arm's units: leave `correct` out")
        return self


class RunFile(Section):
    """A whole run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    seed: int = 0
    limit: int | None = Field(None, ge=1)
    """Take only the first N rows of every prompt source and benchmark, to try a run; `--limit` sets it."""
    profile: str = ""
    """Name of the recipe that the file follows; printed in the report."""
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    prompts: list[PromptsSettings] = Field(min_length=1)
    ingestion: IngestionSettings = Field(default_factory=IngestionSettings)
    target: TargetSettings
    judge: JudgeSettings
    arms: dict[str, ArmSettings] = Field(default_factory=dict)
    evaluate: EvaluateSettings | None = None
    resources: ResourceSettings = Field(default_factory=ResourceSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)

    @model_validator(mode="after")
    def _names_resolve(self) -> RunFile:
        for arm, settings in self.arms.items():
            self._check_arm(arm, settings)
            for teacher in (settings.correct.teacher, settings.correct.fallback) if settings.correct else ():
                if teacher and teacher not in self.models:
                    known = did_you_mean(teacher, sorted(self.models))
                    raise ValueError(f"arms.{arm}.correct: no model '{teacher}' under `models`{known}")
        return self

    def _check_arm(self, arm: str, settings: ArmSettings) -> None:
        if arm == BASE or not _ARM_NAME.fullmatch(arm):
            raise ValueError(
                f"arms.{arm}: an arm's name names folders: lower-case letters, digits, '_' and '-', and not '{BASE}', "
                "which is the target as it is"
            )
        parent = settings.from_
        if parent not in {BASE, *self.arms}:
            raise ValueError(f"arms.{arm}.from: no arm '{parent}'{did_you_mean(parent, self._arms)}")
        if parent != BASE and self.arms[parent].train is None:
            raise ValueError(f"arms.{arm}.from: arm '{parent}' has no `train` section, so no checkpoint to start from")
        self._check_assemble(arm, settings.assemble)
        if settings.guard is not None and settings.guard.mode != "off" and self.judge.detector is None:
            raise ValueError(f"arms.{arm}.guard: its detector is the run's `judge.detector`, which is missing")
        sweep = settings.train.sweep if settings.train else None
        if sweep is not None and not (self.evaluate and self.evaluate.validation):
            raise ValueError(f"arms.{arm}.train.sweep: chooses by `evaluate.validation`, which is missing")
        for name in sweep.metrics if sweep else ():
            if name not in HEADLINE:
                raise ValueError(f"arms.{arm}.train.sweep: no metric '{name}'{did_you_mean(name, list(HEADLINE))}")

    def _ancestors(self, arm: str) -> list[str]:
        """The arms that `arm` starts from, the nearest first; those of a circle once."""
        found: list[str] = []
        while (arm := self.arms[arm].from_) in self.arms and arm not in found:
            found.append(arm)
        return found

    def _check_assemble(self, arm: str, settings: AssembleSettings) -> None:
        correcting = sorted(name for name, other in self.arms.items() if other.correct is not None)
        making = sorted({*correcting, *(name for name, other in self.arms.items() if other.assemble.units_of)})
        named = [("match", other) for other in settings.match]
        named += [(key, getattr(settings, key)) for key in ("rows_of", "units_of", "pairs_from", "answers_from")]
        for key, other in named:
            able, what = (correcting, "has units of its own") if key == "units_of" else (making, "makes rows")
            if other and other not in able:
                raise ValueError(f"arms.{arm}.assemble.{key}: no arm '{other}' that {what}{did_you_mean(other, able)}")
            if other and arm in self._ancestors(other):
                raise ValueError(
                    f"arms.{arm}.assemble.{key}: '{other}' starts from what '{arm}' trains, so it has no rows yet when "
                    f"those of '{arm}' are made; name '{arm}' in arms.{other} alone"
                )
            if key == "match" and self.arms[other].assemble.rows_of:
                followed = self.arms[other].assemble.rows_of
                raise ValueError(f"arms.{arm}.assemble.match: '{other}' takes the rows of '{followed}': match that arm")
        if settings.rows_of == arm:
            raise ValueError(f"arms.{arm}.assemble.rows_of: names the arm itself")

    @property
    def _arms(self) -> list[str]:
        return sorted({BASE, *self.arms})


def load_run_file(path: Path) -> RunFile:
    """Read and validate a run file; a `SetupError` lists every mistake with its line and the nearest known key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SetupError(f"{path}: no such run file; `tracemend demo` writes one to start from") from None
    except IsADirectoryError:
        raise SetupError(f"{path}: is a folder; name the run file in it") from None
    except UnicodeDecodeError as error:
        raise SetupError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror or error}") from None
    return parse_run_file(text, name=str(path))


def parse_run_file(text: str, *, name: str) -> RunFile:
    """`load_run_file` for text that is already in memory; `name` stands before each message."""
    tree, document = _read(text, name)
    if not isinstance(document, dict):
        raise SetupError(f"{name}: a run file is a mapping that begins with `name:`; this is {_kind(document)}")
    try:
        return RunFile.model_validate(document)
    except ValidationError as error:
        lines = [f"{name}:{_line(tree, _place(e))}: {_message(e)}" for e in error.errors(include_url=False)]
        raise SetupError("\n".join(lines)) from None


def _read(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    """The document with the tree that knows its lines; `SetupError` where it is no YAML or says something twice."""
    try:
        loader = yaml.SafeLoader(text)
        tree = loader.get_single_node()
        _check_keys_differ(tree, name)
        loader.deep_construct = True  # refuses a list or mapping that holds itself
        return tree, loader.construct_document(tree) if tree else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SetupError(f"{name}:{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date that there is not, for one
        raise SetupError(f"{name}: not valid YAML: {error}") from None
    except RecursionError:
        raise SetupError(f"{name}: not valid YAML: lists or mappings are nested too deeply") from None


def _check_keys_differ(tree: yaml.Node | None, name: str) -> None:
    """YAML takes the last of two equal keys and drops the first: an arm or a setting would be lost without a word."""
    rest, seen = [tree] if tree else [], set()
    while rest:
        node = rest.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                named, line = (key.tag, str(key.value)), key.start_mark.line + 1
                if named in lines and isinstance(key, yaml.ScalarNode):
                    raise SetupError(f"{name}:{line}: key '{key.value}' is there already, in line {lines[named]}")
                lines[named] = line
                rest.append(value)
        elif isinstance(node, yaml.SequenceNode):
            rest += node.value


def _place(error: ErrorDetails) -> tuple[int | str, ...]:
    """Where an error is; what is found wrong in the file as a whole begins with the place."""
    place, told, _ = error["msg"].removeprefix("Value error, ").partition(": ")
    return error["loc"] or (tuple(place.split(".")) if told else ())


def _message(error: ErrorDetails) -> str:
    if not error["loc"]:
        return error["msg"].removeprefix("Value error, ")
    if error["loc"][-1] == "[key]":
        where = ".".join(str(part) for part in error["loc"][:-1])
        return f"{where}: YAML reads this name as a number or a switch; write it in quotes"
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{did_you_mean(str(error['loc'][-1]), _known_keys(error['loc']))}"
    if error["type"] == "missing":
        return f"{where}: is missing"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def _known_keys(location: Sequence[int | str]) -> list[str]:
    """The keys that the section around `location` knows."""
    kinds: list[Any] = [RunFile]
    for part in location[:-1]:
        kinds = [child for kind in kinds for child in _children(kind, part)]
    known = {
        field.alias or name
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name, field in kind.model_fields.items()
    }
    return sorted(known)


def _children(kind: Any, part: int | str) -> list[Any]:
    """The types behind one step of an error's location: a field, a list's items or a mapping's values."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = [f.annotation for name, f in kind.model_fields.items() if part in (name, f.alias)]
        return [member for annotation in fields for member in _members(annotation)]
    arguments = get_args(kind)
    return _members(arguments[-1] if get_origin(kind) is dict else arguments[0]) if arguments else []


def _members(annotation: Any) -> list[Any]:
    """The types of a union, or the one type that is none."""
    return list(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else [annotation]


def _line(tree: yaml.Node | None, location: Sequence[int | str]) -> int:
    """The line (from 1) of the deepest node on the way to `location`; for an unknown key, the key itself."""
    node, line = tree, 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            match = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if match is None:
                break
            line, node = match[0].start_mark.line + 1, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _kind(document: Any) -> str:
    return "empty" if document is None else f"a {type(document).__name__}"
