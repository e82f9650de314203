"""From a judge's settings to the judge: its models and members found, its identity computed.

Called by `service`. An identity names everything that decides what the judge says: plug-in, options, wording, models,
members. Two equal identities answer alike; addresses and credentials are no part of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracemend.judge.opinions import JudgeFunction, judges
from tracemend.judge.settings import JudgeChoice
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import digest_of
from tracemend.kit.ports import TextModel
from tracemend.kit.registry import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltJudge:
    """A judge that can be asked, and who it is."""

    ask: JudgeFunction
    identity: str
    """`<plug-in>:<16 hex digits>`."""


def build_judge(choice: JudgeChoice, models: Mapping[str, TextModel]) -> BuiltJudge:
    """The judge that `choice` describes; `SetupError` names what is missing, superfluous or unknown."""
    accepted = inspect.signature(judges.get(choice.name)).parameters
    members = tuple(build_judge(member, models) for member in choice.members)
    given: dict[str, Any] = {
        "model": _model(choice.name, choice.model, models) if choice.model is not None else None,
        "models": tuple(_model(choice.name, name, models) for name in choice.models),
        "members": tuple(member.ask for member in members),
    }
    for field, value in given.items():
        _check_need(choice.name, field, value, accepted, models)
    if reserved := sorted(given.keys() & choice.options.keys()):
        raise SetupError(f"judge '{choice.name}': {', '.join(reserved)} stands beside `options`, not inside it")
    ask: JudgeFunction = judges.create(
        choice.name, **choice.options, **{field: value for field, value in given.items() if field in accepted}
    )
    facts = {
        "options": choice.options,
        "wording": getattr(ask, "wording", ""),
        "models": [model.identity for model in _models_of(given)],
        "members": [member.identity for member in members],
    }
    return BuiltJudge(ask=ask, identity=f"{choice.name}:{digest_of(facts)[:16]}")


def _model(judge: str, name: str, models: Mapping[str, TextModel]) -> TextModel:
    if name not in models:
        raise SetupError(f"judge '{judge}' asks for the unknown model '{name}'{did_you_mean(name, sorted(models))}")
    return models[name]


def _check_need(
    judge: str, field: str, value: Any, accepted: Mapping[str, inspect.Parameter], models: Mapping[str, TextModel]
) -> None:
    """A judge gets what its signature asks for, and nothing is named in vain."""
    if field not in accepted and value:
        raise SetupError(f"judge '{judge}' takes no `{field}`; remove it")
    needed = field in accepted and accepted[field].default is inspect.Parameter.empty
    if needed and not value:
        hint = "" if field == "members" else f"; the run file's models: {', '.join(sorted(models)) or 'none'}"
        raise SetupError(f"judge '{judge}' needs `{field}`{hint}")


def _models_of(given: Mapping[str, Any]) -> tuple[TextModel, ...]:
    first: TextModel | None = given["model"]
    rest: tuple[TextModel, ...] = given["models"]
    return rest if first is None else (first, *rest)
