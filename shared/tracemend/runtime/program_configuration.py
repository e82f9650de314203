"""Settings from a file and the environment, with one complete error for all mistakes.

`tracemend serve` calls `load`. Environment beats file; a value is never shown in an error, only what kind of value it
is, because settings hold secrets. A variable that nearly has the name of a setting is a mistake, unless another service
or command reads it; other `TRACEMEND_` variables belong to somebody else (run files may name their own).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeAlias, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tracemend.kit.errors import SetupError
from tracemend.kit.secrets import Secret
from tracemend.runtime.program_settings import SERVICES, ProcessSettings

P = TypeVar("P", bound=ProcessSettings)
Keys: TypeAlias = tuple[str, ...]

PREFIX = "TRACEMEND_"
_NEAR = 0.87
"""Likeness above which an unknown variable is taken for a misspelt one."""
_OF_OTHER_COMMANDS = frozenset(
    {"TRACEMEND_CACHE", "TRACEMEND_JOB_NODES", "TRACEMEND_TARGET_URL", "TRACEMEND_TO", "TRACEMEND_TOKEN_FILE"}
)
"""Those that come so near to the name of a setting that they would be taken for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """One leaf of the settings: where it stands, and which variable sets it."""

    keys: Keys
    variable: str
    field: FieldInfo
    is_optional: bool = False
    """Whether it stands in a section that may be left out as a whole."""

    @property
    def key(self) -> str:
        return ".".join(self.keys)

    @property
    def is_secret(self) -> bool:
        return self.field.annotation is Secret


def settings_of(model: type[BaseModel], keys: Keys = (), *, is_optional: bool = False) -> Iterator[Setting]:
    """Every setting of `model`, in order."""
    for name, field in model.model_fields.items():
        path = (*keys, name)
        section = _section_of(field.annotation)
        if section is not None:
            yield from settings_of(section, path, is_optional=is_optional or section is not field.annotation)
        else:
            variable = PREFIX + "_".join(path).upper()
            yield Setting(keys=path, variable=variable, field=field, is_optional=is_optional)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that `annotation` is, or may be beside None."""
    for one in get_args(annotation) if isinstance(annotation, UnionType) else (annotation,):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def load(kind: type[P], *, file: Path | None = None, environ: Mapping[str, str] = os.environ) -> P:
    """The settings of one service; a `SetupError` that lists every mistake in `file` and `environ`."""
    known = list(settings_of(kind))
    mistakes: list[str] = []
    values = _from_file(file) if file is not None else {}
    variables = _from_environment(known, environ, mistakes)
    for setting, value in variables.items():
        _put(values, setting.keys, value)
    mistakes += misspelt(known, environ)
    mistakes += _unreadable(values, known)
    try:
        settings = kind.model_validate(values)
        if not mistakes:
            return settings
    except ValidationError as error:
        given = {setting.keys: setting for setting in variables}
        mistakes += _told(error, known, given, file)
    number = f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}"
    raise SetupError(f"the settings of {kind.service} hold {number}:\n" + "\n".join(f"  {each}" for each in mistakes))


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SetupError(f"{file}: cannot be read ({why}); give --config a file with settings") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "somewhere"
        raise SetupError(f"{file}: is not YAML, see {place}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SetupError(f"{file}: holds {_kind(content)} where `key: value` lines are wanted")
    return content


def _from_environment(known: list[Setting], environ: Mapping[str, str], mistakes: list[str]) -> dict[Setting, Any]:
    found: dict[Setting, Any] = {}
    for setting in known:
        value, file = (
            environ.get(setting.variable),
            environ.get(f"{setting.variable}_FILE") if setting.is_secret else None,
        )
        if value and file:
            mistakes.append(f"{setting.variable} and {setting.variable}_FILE: both are set; keep one of them")
            found[setting] = value
        elif file:
            found[setting] = {"file": file}
        elif value:
            try:
                found[setting] = _value(setting.field.annotation, value)
            except yaml.YAMLError:
                mistakes.append(f"{setting.variable}: is not YAML; write it as in the file, {{key: value}} or [item]")
    return found


def _value(annotation: Any, text: str) -> Any:
    """A variable's value: lists between commas or as YAML, mappings as YAML, anything else as it is."""
    origin = get_origin(annotation)
    if origin is dict or (origin in (list, tuple, frozenset) and text.lstrip().startswith("[")):
        return yaml.safe_load(text)
    if origin in (list, tuple, frozenset):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _put(values: dict[str, Any], keys: Keys, value: Any) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):  # the file is wrong there, and validation says so
            return
        values = inner
    values[keys[-1]] = value


def misspelt(known: Iterable[Setting], environ: Mapping[str, str]) -> list[str]:
    """A mistake for every variable that nearly has the name of a setting."""
    names = {setting.variable for setting in known} | {f"{s.variable}_FILE" for s in known if s.is_secret}
    of_others = {setting.variable for kind in SERVICES.values() for setting in settings_of(kind)} | _OF_OTHER_COMMANDS
    mistakes: list[str] = []
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in names | of_others:
            near = difflib.get_close_matches(variable, names, n=1, cutoff=_NEAR)
            mistakes += [f"{variable}: no such setting; did you mean {near[0]}?"] if near else []
    return mistakes


def _unreadable(values: Mapping[str, Any], known: Iterable[Setting]) -> list[str]:
    """Secrets whose file cannot be read now."""
    mistakes: list[str] = []
    for setting in known:
        match _get(values, setting.keys):
            case {"file": str() as file} if setting.is_secret:
                try:
                    Secret(file=Path(file)).reveal()
                except SetupError as error:
                    mistakes.append(f"{setting.key} (or {setting.variable}_FILE): {error}")
    return mistakes


def _get(values: Any, keys: Keys) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _told(
    error: ValidationError, known: Iterable[Setting], from_environment: Mapping[Keys, Setting], file: Path | None
) -> list[str]:
    """A line for every mistake: where, what is there, what is wanted."""
    by_keys = {setting.keys: setting for setting in known}
    lines: list[str] = []
    for found in error.errors(include_url=False, include_context=False):
        keys = tuple(str(part) for part in found["loc"])
        setting = next((by_keys[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in by_keys), None)
        where = ".".join(keys)
        if found["type"] == "missing":
            lines.append(f"{where}: is missing; set {_remedy(setting)}" if setting else f"{where}: is missing")
        elif found["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, [s.key for s in known], n=1)
            lines.append(f"{where} in {file}: no such setting" + (f"; did you mean {near[0]}?" if near else ""))
        else:
            place = setting.variable if setting and setting.keys in from_environment else f"{where} in {file}"
            lines.append(f"{place}: {_kind(found['input'])}; {_wanted(found['msg'])}")
    return lines


def _remedy(setting: Setting) -> str:
    named = f"{setting.variable} (or {setting.variable}_FILE)" if setting.is_secret else setting.variable
    about = (setting.field.description or "").split("\n")[0].rstrip(".")
    return f"{named}, or `{setting.key}` in the file" + (f" ({about})" if about else "")


def _wanted(message: str) -> str:
    """Pydantic's own words, which name types and limits and never the value."""
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _kind(value: Any) -> str:
    """What kind of value it is, and not which."""
    match value:
        case None:
            return "it is empty"
        case bool():
            return "it is true or false"
        case int() | float():
            return "it is a number"
        case str():
            return f"it is a text of {len(value)} characters"
        case dict():
            return "it is a section"
        case list():
            return "it is a list"
    return f"it is of type {type(value).__name__}"
