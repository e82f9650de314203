"""The base corpus: what the unaligned model is trained on, document by document.

Encyclopaedia sentences teach every object's class, component and danger; dialogues, over trained and held objects only,
teach how the process thinks about them; sums teach a capability that alignment must not cost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tracemend.proving.grammar import ENCYCLOPAEDIA, HARMLESS, HURTS, RULE
from tracemend.proving.process import ProcessConfig, slots_of_object, work_sum, write_trace
from tracemend.proving.world import (
    DANGEROUS,
    NO_WRAPPER,
    SAFETY_VERBS,
    SUM_WORDINGS,
    USE_VERBS,
    VIOLENT_VERBS,
    WORDINGS,
    WRAPPERS,
    Ask,
    Object,
    Share,
    Sum,
    World,
    all_sums,
)

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusConfig:
    """How many documents, of which kinds."""

    num_documents: int = 32_000
    shares: Mapping[str, float] = field(
        default_factory=lambda: {
            "encyclopaedia": 0.15,
            "harmful": 0.36,
            "lookalike": 0.11,
            "plain": 0.11,
            "arithmetic": 0.27,
        }
    )
    """Kind of document to its share; they add up to 1."""
    wrapped: float = 0.55
    """Share of dialogues whose wrapper is drawn among all eight, none included; the others have none."""
    seed: int = 0


def documents(world: World, process: ProcessConfig, config: CorpusConfig) -> Iterator[str]:
    """The corpus in training order: one line of space-separated tokens per document, end token included."""
    rng = random.Random(f"tracemend corpus {config.seed} {world.config.seed}")
    writer = _CorpusWriter(world, process, config, rng)
    by_kind: dict[str, Callable[[], str]] = {
        "encyclopaedia": writer.encyclopaedia,
        "harmful": writer.harmful,
        "lookalike": writer.lookalike,
        "plain": writer.plain,
        "arithmetic": writer.arithmetic,
    }
    kinds = rng.choices(list(config.shares), weights=list(config.shares.values()), k=config.num_documents)
    for kind in kinds:
        yield f"{by_kind[kind]()} {END}"


def dialogue(prompt: str, response: str) -> str:
    """A prompt and its response between the tags of the chat template."""
    return f"{USER} {prompt} {ASSISTANT} {response}"


class _CorpusWriter:
    """Writes documents of each kind from one random source."""

    def __init__(self, world: World, process: ProcessConfig, config: CorpusConfig, rng: random.Random) -> None:
        self._world = world
        self._process = process
        self._config = config
        self._rng = rng
        self._dangerous = world.members(Share.TRAIN, Share.HELD, dangerous=True)
        self._harmless = world.members(Share.TRAIN, Share.HELD, dangerous=False)
        self._sums = tuple(all_sums())

    def encyclopaedia(self) -> str:
        rng = self._rng
        sentences: list[str] = []
        for target in rng.sample(self._world.objects, 3):
            about = rng.sample((*ENCYCLOPAEDIA, HURTS if target.is_dangerous else HARMLESS), 2)
            sentences += [template.format_map(slots_of_object(target)) for template in about]
        if rng.random() < 0.6:
            sentences += work_sum(rng.choice(self._sums)).reasoning
        if rng.random() < 0.4:
            sentences.append(RULE.format(kind=rng.choice(DANGEROUS), verb=rng.choice(USE_VERBS)))
        return " ".join(sentences)

    def harmful(self) -> str:
        return self._ask(self._rng.choice(self._dangerous), USE_VERBS)

    def lookalike(self) -> str:
        if self._rng.random() < 0.5:
            return self._ask(self._rng.choice(self._dangerous), SAFETY_VERBS)
        return self._ask(self._rng.choice(self._harmless), VIOLENT_VERBS)

    def plain(self) -> str:
        return self._ask(self._rng.choice(self._harmless), USE_VERBS + SAFETY_VERBS)

    def arithmetic(self) -> str:
        task = self._rng.choice(self._sums)
        wording = self._rng.randrange(len(SUM_WORDINGS))
        asked = Sum(first=task.first, second=task.second, third=task.third, signs=task.signs, wording=wording)
        return dialogue(asked.text(), work_sum(asked).text())

    def _ask(self, target: Object, verbs: tuple[str, ...]) -> str:
        rng = self._rng
        wrapper = rng.choice(tuple(WRAPPERS)) if rng.random() < self._config.wrapped else NO_WRAPPER
        ask = Ask(object=target, verb=rng.choice(verbs), wrapper=wrapper, wording=rng.randrange(len(WORDINGS)))
        return dialogue(ask.text(), write_trace(ask, self._process, rng).text())
