"""From a judge's or detector's settings to the thing itself: its models and members found, its identity computed.

Called by `service` and the command line. An identity names everything that decides what a judge says: plug-in, options,
wording, models, members. Two equal identities answer alike; addresses and credentials are no part of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracemend.judge.cues import DetectorFunction, detectors
from tracemend.judge.opinions import JudgeFunction, judges
from tracemend.judge.settings import DetectorChoice, JudgeChoice
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import digest_of
from tracemend.kit.ports import TextModel
from tracemend.kit.registry import Registry, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltJudge:
    """A judge that can be asked, and who it is."""

    ask: JudgeFunction
    identity: str
    """`<plug-in>:<16 hex digits>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltDetector:
    """A detector that can be asked, and who it is."""

    ask: DetectorFunction
    identity: str
    """`<plug-in>:<16 hex digits>`."""


def build_judge(choice: JudgeChoice, models: Mapping[str, TextModel]) -> BuiltJudge:
    """The judge that `choice` describes; `SetupError` names what is missing, superfluous or unknown."""
    members = tuple(build_judge(member, models) for member in choice.members)
    given: dict[str, Any] = {
        "model": _model(judges, choice.name, choice.model, models),
        "models": tuple(_model(judges, choice.name, name, models) for name in choice.models),
        "members": tuple(member.ask for member in members),
    }
    ask: JudgeFunction = _created(judges, choice, given, models)
    asked = (*([given["model"]] if given["model"] else []), *given["models"])
    facts = _facts(choice, ask, asked) | {"members": [member.identity for member in members]}
    return BuiltJudge(ask=ask, identity=_identity(choice, facts))


def build_detector(choice: DetectorChoice, models: Mapping[str, TextModel]) -> BuiltDetector:
    """The detector that `choice` describes; `SetupError` names what is missing, superfluous or unknown."""
    model = _model(detectors, choice.name, choice.model, models)
    ask: DetectorFunction = _created(detectors, choice, {"model": model}, models)
    return BuiltDetector(ask=ask, identity=_identity(choice, _facts(choice, ask, (model,) if model else ())))


def _created(
    registry: Registry[Any],
    choice: JudgeChoice | DetectorChoice,
    given: Mapping[str, Any],
    models: Mapping[str, TextModel],
) -> Any:
    """The plug-in's function, given what its signature asks for and nothing in vain."""
    accepted = inspect.signature(registry.get(choice.name)).parameters
    who = f"{registry.kind} '{choice.name}'"
    for field, value in given.items():
        _check_need(who, field, value, accepted, models)
    if reserved := sorted(given.keys() & choice.options.keys()):
        raise SetupError(f"{who}: {', '.join(reserved)} stands beside `options`, not inside it")
    wanted = {field: value for field, value in given.items() if field in accepted}
    return registry.compose(choice.name, wanted, choice.options)


def _model(registry: Registry[Any], plugin: str, name: str | None, models: Mapping[str, TextModel]) -> TextModel | None:
    if name is not None and name not in models:
        known = did_you_mean(name, sorted(models))
        raise SetupError(f"{registry.kind} '{plugin}' asks for the unknown model '{name}'{known}")
    return None if name is None else models[name]


def _check_need(
    who: str, field: str, value: Any, accepted: Mapping[str, inspect.Parameter], models: Mapping[str, TextModel]
) -> None:
    if field not in accepted and value:
        raise SetupError(f"{who} takes no `{field}`; remove it")
    needed = field in accepted and accepted[field].default is inspect.Parameter.empty
    if needed and not value:
        hint = "" if field == "members" else f"; the run file's models: {', '.join(sorted(models)) or 'none'}"
        raise SetupError(f"{who} needs `{field}`{hint}")


def _facts(choice: JudgeChoice | DetectorChoice, ask: Any, asked: tuple[TextModel, ...]) -> dict[str, Any]:
    wording = getattr(ask, "wording", "")
    return {"options": choice.options, "wording": wording, "models": [model.identity for model in asked]}


def _identity(choice: JudgeChoice | DetectorChoice, facts: Mapping[str, Any]) -> str:
    return f"{choice.name}:{digest_of(facts)[:16]}"
