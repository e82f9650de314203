"""Model addresses to engines: `open_model("transformers:/models/r1", options={...})`.

Called by whoever composes a program (embedded mode, services' `__main__`, commands). An adapter is imported only when
an address asks for it. Opening loads the model and may take seconds to minutes: call it off the event loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.kit.ports import TextModel
from tracemend.kit.registry import did_you_mean


def open_model(url: str, *, options: Mapping[str, Any] | None = None) -> TextModel:
    """The engine at `url`, ready to complete.

    `transformers:PATH`, `vllm:PATH`, `openai:MODEL@http://host:port/v1`, `scripted:NAME`. `options` are the adapter's
    keyword arguments (for `scripted:` also the script's own). Raises `SetupError` that says what to change.
    """
    scheme, separator, rest = url.partition(":")
    opener = _OPENERS.get(scheme)
    if opener is None:
        raise SetupError(f"unknown model address '{url}'{did_you_mean(scheme, list(_OPENERS))} (SCHEME:REST)")
    if not separator or not rest:
        raise SetupError(f"model address '{url}' names no model: write {_FORMS[scheme]}")
    return opener(rest, dict(options or {}))


def check_model(url: str, *, options: Mapping[str, Any] | None = None) -> None:
    """Raises what `open_model` would of an address and its options, without loading a model: the folder of one is
    `model_folder.check`'s to look at."""
    engine = _LOCAL.get(url.partition(":")[0])
    if engine is None:
        open_model(url, options=options)  # holds no model, and connects when it is first asked
    else:
        _check_options(engine(), options or {})


def _transformers_engine() -> Callable[..., TextModel]:
    from tracemend.adapters.transformers_engine import TransformersEngine

    return TransformersEngine


def _vllm_engine() -> Callable[..., TextModel]:
    from tracemend.adapters.vllm_engine import VllmEngine

    return VllmEngine


def _transformers(rest: str, options: dict[str, Any]) -> TextModel:
    return _create(_transformers_engine(), Path(rest), options)


def _vllm(rest: str, options: dict[str, Any]) -> TextModel:
    return _create(_vllm_engine(), Path(rest), options)


def _openai(rest: str, options: dict[str, Any]) -> TextModel:
    from tracemend.adapters.openai_engine import OpenAiEngine

    model, separator, base_url = rest.rpartition("@")
    if not separator or not model or not base_url.startswith(("http://", "https://")):
        raise SetupError(f"model address 'openai:{rest}' is not of the form {_FORMS['openai']}")
    return _create(OpenAiEngine, model, {"base_url": base_url, **options})


def _scripted(rest: str, options: dict[str, Any]) -> TextModel:
    from tracemend.adapters.scripted_engine import ScriptedEngine

    own = {name: options.pop(name) for name in ("delay_s", "jitter_s") if name in options}
    return ScriptedEngine(rest, options=options, **own)


def _create(engine: Callable[..., TextModel], subject: Path | str, options: dict[str, Any]) -> TextModel:
    _check_options(engine, options)
    return engine(subject, **options)


def _check_options(engine: Callable[..., TextModel], options: Mapping[str, Any]) -> None:
    parameters = [p.name for p in inspect.signature(engine).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in parameters:
            raise SetupError(f"unknown engine option '{name}'{did_you_mean(name, parameters)}")


_OPENERS: dict[str, Callable[[str, dict[str, Any]], TextModel]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
    "scripted": _scripted,
}
_LOCAL = {"transformers": _transformers_engine, "vllm": _vllm_engine}
_FORMS = {
    "transformers": "transformers:PATH",
    "vllm": "vllm:PATH",
    "openai": "openai:MODEL@http://host:port/v1",
    "scripted": "scripted:NAME",
}
