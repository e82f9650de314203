"""Composing guards: a run file's `guard` section turned into a guard, and the server of `tracemend guard serve`.

Detectors belong to the judge slice and trigger pools to the corrector; here they meet the generator.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemend.corrector.triggers import find_triggers
from tracemend.embedded.plan import Plan
from tracemend.generator.guarding import Guard, GuardedGenerator, Trigger, guards
from tracemend.generator.service import Generator
from tracemend.generator.settings import GuardSettings
from tracemend.judge.building import build_detector
from tracemend.judge.finding import Detector
from tracemend.judge.settings import DetectorChoice
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import CueFinder, TextModel
from tracemend.records import Cue, Prompt
from tracemend.redaction import Text
from tracemend.runtime.models import open_model
from tracemend.traces.template import ChatTemplate

if TYPE_CHECKING:
    from tracemend.generator.guard_server import ServerSettings

_PATIENCE_S, _LENIENT_PATIENCE_S = 20.0, 2.0
_LEAST_PAUSE_S = 0.1


def open_guard(settings: GuardSettings, *, finder: CueFinder | None) -> Guard:
    """The guard that `settings` describe; `SetupError` names what is missing, superfluous or unknown."""
    accepted = inspect.signature(guards.get(settings.name)).parameters
    given: dict[str, Any] = {"mode": settings.mode, "finder": finder}
    if "triggers" in accepted:
        given["triggers"] = tuple(Trigger(id=t.id, text=t.text) for t in find_triggers(settings.triggers))
    if reserved := sorted({"mode", "finder", "triggers"} & settings.options.keys()):
        raise SetupError(f"guard '{settings.name}': {', '.join(reserved)} stands beside `options`, not inside it")
    wanted = {name: value for name, value in given.items() if name in accepted}
    guard: Guard = guards.compose(settings.name, wanted, settings.options)
    return guard


def guarded(generator: Generator, guard: Guard | None) -> Generator:
    """`generator`, writing under `guard` where there is one."""
    return generator if guard is None else GuardedGenerator(generator, guard)


def check_guards(plan: Plan) -> None:
    """Raise the `SetupError` of any arm whose guard cannot be made; opens no model."""
    finder = None if plan.run.judge.detector is None else _Nobody()
    for settings in plan.run.arms.values():
        if settings.guard is not None:
            open_guard(settings.guard, finder=finder)


class _Nobody:
    """Stands for a detector whose model is not open yet."""

    identity = "not opened"

    async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
        raise AssertionError("a check asks no detector")


# the server -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What `tracemend guard serve` is told."""

    engine: str
    """The target: `transformers:FOLDER`, `vllm:FOLDER` or `openai:MODEL@URL`."""
    guard: GuardSettings
    detector: DetectorChoice | None
    """None where the guard's mode is off. Its `model` is the engine of the model that it asks."""
    name: str = ""
    """The model's name for clients; empty for that of its folder or endpoint."""
    tokenizer: Path | None = None
    """The model's folder of tokenizer files, where the engine is an endpoint."""
    reasoning_format: str = "auto"
    engine_options: Mapping[str, Any] = field(default_factory=dict)


async def serve_guard(
    serving: Serving,
    settings: ServerSettings,
    *,
    host: str,
    port: int,
    api_key: str,
    announce: Callable[[str, str], None],
) -> None:
    """Open the models and serve until told to stop; `announce` gets the address and the model's name."""
    from tracemend.generator.guard_server import Served, bind, build_app, serve

    scheme, _, rest = serving.engine.partition(":")
    if not rest:
        raise SetupError(f"'{serving.engine}' names no model: write transformers:FOLDER, vllm:FOLDER, openai:MODEL@URL")
    folder = serving.tokenizer or (Path(rest) if scheme in ("transformers", "vllm") else None)
    name = serving.name or (rest.rpartition("@")[0] if scheme == "openai" else Path(rest).name)
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(bind(host, port))
        finder = await _open_finder(serving, stack)
        guard = open_guard(serving.guard, finder=finder)
        template = ChatTemplate.load(folder, serving.reasoning_format) if folder else None
        options = {"completions": True, **serving.engine_options} if scheme == "openai" and folder else None
        model = await _opened(serving.engine, options or serving.engine_options, stack)
        served = Served(name=name, model=model, template=template, guard=guard, mode=serving.guard.mode)
        app = build_app(served, settings, api_key=api_key)
        await serve(app, bound, announce=lambda address: announce(address, name))


async def _open_finder(serving: Serving, stack: AsyncExitStack) -> CueFinder | None:
    choice = serving.detector
    if choice is None:
        return None
    models: dict[str, TextModel] = {}
    if choice.model is not None:
        models[choice.model] = await _opened(choice.model, {}, stack)
    finder = Detector(build_detector(choice, models))
    return PatientFinder(finder, is_lenient=serving.guard.mode == "monitor")


async def _opened(engine: str, options: Mapping[str, Any], stack: AsyncExitStack) -> TextModel:
    model = await asyncio.to_thread(open_model, engine, options=options)
    stack.push_async_callback(model.aclose)
    return model


class PatientFinder:
    """A detector for responses under way, which no bus delivers again: asked once more where its model asks for
    patience, and given up for the moment where nobody needs to wait for it."""

    def __init__(self, inner: CueFinder, *, is_lenient: bool, patience_s: float | None = None) -> None:
        """`is_lenient`: for a guard that only looks on, whose target must not suffer: after `patience_s` the detector
        could not tell. Else `Retry` is raised once its waits come to `patience_s`."""
        self._inner = inner
        self._is_lenient = is_lenient
        default_s = _LENIENT_PATIENCE_S if is_lenient else _PATIENCE_S
        self._patience_s = default_s if patience_s is None else patience_s

    @property
    def identity(self) -> str:
        return self._inner.identity

    async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
        if not self._is_lenient:
            return await self._asked_again(prompt, reasoning)
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._asked_again(prompt, reasoning)
        except (Retry, TimeoutError):
            return Cue(detector=self.identity, step=-1, labels=("busy",))

    async def _asked_again(self, prompt: Prompt, reasoning: Text) -> Cue:
        waited_s = 0.0
        while True:
            try:
                return await self._inner.find(prompt, reasoning)
            except Retry as busy:
                pause_s = max(busy.after_s, _LEAST_PAUSE_S)  # who says "at once" for ever is not asked for ever
                waited_s += pause_s
                if waited_s > self._patience_s:
                    raise
                await asyncio.sleep(pause_s)
