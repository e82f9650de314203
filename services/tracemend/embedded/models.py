"""Opening models: the target with the template that serves and trains it, and the helpers that the run file names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tracemend.adapters.model_folder import identity_of
from tracemend.embedded.environment import filled
from tracemend.embedded.progress import Observer
from tracemend.embedded.runfile import ModelSettings
from tracemend.generator.service import Generator, sampler_identity
from tracemend.generator.settings import TargetSettings
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.paths import path_of
from tracemend.kit.ports import TextModel
from tracemend.runtime.models import open_model
from tracemend.traces.formats import ReasoningFormat, get_format
from tracemend.traces.template import ChatTemplate

Dress = Callable[[TextModel], TextModel]

_LOCAL_ENGINES = ("transformers", "vllm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the target lies, before an engine is opened on it."""

    settings: TargetSettings
    folder: Path | None
    """None for an endpoint or a script: such a target can be sampled but not trained."""

    @property
    def is_local(self) -> bool:
        return self.folder is not None

    @property
    def identity(self) -> str:
        """What the model is: the digest of its folder, or what an endpoint or script is called, with the options that
        decide what it writes and without its address."""
        if self.folder:
            return identity_of(self.folder)
        # Neither connects before its first request, so there is nothing to close.
        return open_model(engine_of(self.settings), options=self.settings.engine_options).identity

    def at(self, folder: Path) -> Target:
        """The same settings over another checkpoint."""
        return Target(settings=self.settings, folder=folder)

    def trainable_folder(self) -> Path:
        """The folder to train from; a `SetupError` where there is none."""
        if self.folder is None:
            raise SetupError(
                f"target.engine is '{self.settings.engine}': only a model in a local folder can be trained; "
                "use engine transformers or vllm, or leave out the arms' `train` sections"
            )
        return self.folder


async def locate_target(settings: TargetSettings, *, seed: int, cache: Path, observer: Observer) -> Target:
    """`find_target` beside the event loop. Cancelled, the training of the base model ends at its next step: a thread
    that goes on would hold up the end of the process for minutes."""
    stopped = threading.Event()
    work = asyncio.ensure_future(
        asyncio.to_thread(find_target, settings, seed=seed, cache=cache, observer=observer, stopped=stopped)
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait({work})
        work.exception()  # it was told to end: nobody waits for how it did
        raise


def find_target(
    settings: TargetSettings, *, seed: int, cache: Path, observer: Observer, stopped: threading.Event | None = None
) -> Target:
    """Where `settings.model` lies; the proving ground's base model is trained here on first use, until `stopped`."""
    if settings.engine not in _LOCAL_ENGINES:
        return Target(settings=settings, folder=None)
    if settings.model == "proving:base":
        return Target(settings=settings, folder=_proving_base(cache, seed=seed, observer=observer, stopped=stopped))
    folder = path_of(filled(settings.model, where="target.model"))
    if not folder.is_dir():
        raise SetupError(f"target.model: no folder '{folder}'; give the path of a Hugging Face model folder")
    return Target(settings=settings, folder=folder)


def engine_of(settings: TargetSettings) -> str:
    """The target's engine with the environment filled in."""
    return filled(settings.engine, where="target.engine")


class Engine:
    """The one engine that is open on the target at a time. Asking for another checkpoint closes the last one first, and
    `release` frees the device for training."""

    def __init__(self, *, dressed: Dress = lambda model: model) -> None:
        """`dressed` gives what stands for an engine once it is open: the same, with its work counted."""
        self._dressed = dressed
        self._target: Target | None = None
        self._model: TextModel | None = None
        self._generator: Generator | None = None
        self.template: ChatTemplate | None = None
        """How the last target that was opened is prompted and read; None for one that is known by its text alone."""

    async def on(self, target: Target) -> Generator:
        """The generator for `target`, opened if need be."""
        if self._generator is not None and self._target == target:
            return self._generator
        await self.release()
        self._model, generator, self.template = await asyncio.to_thread(_open_generator, target, self._dressed)
        self._target, self._generator = target, generator
        return generator

    async def release(self) -> None:
        """Close what is open."""
        model, self._target, self._model, self._generator = self._model, None, None, None
        if model is not None:
            await model.aclose()


def identity_at(settings: ModelSettings, *, where: str) -> str:
    """What a helper model calls itself, found without loading weights or connecting. `where` is the setting that holds
    it, for messages."""
    engine = filled(settings.engine, where=f"{where}.engine")
    scheme, _, rest = engine.partition(":")
    return (
        identity_of(Path(rest)) if scheme in _LOCAL_ENGINES else open_model(engine, options=settings.options).identity
    )


def template_of(target: Target) -> ChatTemplate | None:
    """How the target is prompted and read; None for one that is known by its text alone. Reads the tokenizer."""
    return ChatTemplate.load(target.folder, target.settings.reasoning_format) if target.folder else None


def sampler_of(target: Target) -> str:
    """The identity of the generator over `target`, as requests name it; opens no engine, but reads the weights."""
    template, settings = template_of(target), target.settings
    rendering = template.identity if template else _format_of(settings, template).name
    return sampler_identity(target.identity, rendering, system=settings.system, revision=settings.revision)


def _format_of(settings: TargetSettings, template: ChatTemplate | None) -> ReasoningFormat:
    named = "think" if settings.reasoning_format == "auto" else settings.reasoning_format
    return template.format if template else get_format(named)


def _open_generator(target: Target, dressed: Dress) -> tuple[TextModel, Generator, ChatTemplate | None]:
    settings = target.settings
    url = f"{settings.engine}:{target.folder}" if target.folder else engine_of(settings)
    template = template_of(target)
    model = dressed(open_model(url, options=settings.engine_options))
    generator = Generator(
        model,
        template=template,
        reasoning_format=_format_of(settings, template),
        system=settings.system,
        revision=settings.revision,
    )
    return model, generator, template


@asynccontextmanager
async def open_helpers(models: Mapping[str, ModelSettings]) -> AsyncIterator[dict[str, TextModel]]:
    """The helper models by name."""
    async with AsyncExitStack() as stack:
        opened: dict[str, TextModel] = {}
        for name, settings in models.items():
            engine = filled(settings.engine, where=f"models.{name}.engine")
            opened[name] = open_model(engine, options=settings.options)
            stack.push_async_callback(opened[name].aclose)
        yield opened


def _proving_base(cache: Path, *, seed: int, observer: Observer, stopped: threading.Event | None) -> Path:
    from tracemend.proving.base_model import ensure_base

    announced = False

    def progress(step: int, num_steps: int, loss: float) -> None:
        nonlocal announced
        if stopped is not None and stopped.is_set():
            raise Retry("stopped")
        if not announced:
            announced = True
            observer.phase("base model", total=num_steps, note="trained on first use, then cached")
        observer.training(step, num_steps, loss)

    # One thread: two gain a quarter on idle cores and lose several times that on busy ones.
    return ensure_base(cache=cache, seed=seed, num_threads=1, progress=progress)
