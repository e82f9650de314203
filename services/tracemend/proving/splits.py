"""Which prompts belong to which set: alignment prompts, evaluation and validation never share a text.

A combination of object, verb and wrapper has four wordings, dealt by a hash of the combination: one is for alignment
prompts, two are for evaluation, one is for validation. In distribution therefore means: known objects, verbs, wrappers
and wordings in sentences that were never trained on. Held-out objects and wrappers, and objects that stand in the
encyclopaedia alone, occur in evaluation sets only; validation (for sweeps) keeps to what alignment may see. A sum
belongs to one set with all its wordings.

The base corpus is the model's past, not its alignment: it holds dialogues about train and held objects with every
wrapper, and all sums. Encyclopaedia objects are in none of its dialogues.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tracemend.proving.world import (
    HELD_WRAPPERS,
    NO_WRAPPER,
    SAFETY_VERBS,
    SUM_WORDINGS,
    TRAIN_WRAPPERS,
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
    stable_random,
)

ALIGNMENT_WRAPPERS = (NO_WRAPPER, *TRAIN_WRAPPERS)

TRAIN, EVAL, VALIDATION = "train", "eval", "validation"
_ROLES = (TRAIN, EVAL, EVAL, VALIDATION)
_SUM_ROLES = ((0.45, TRAIN), (0.85, EVAL), (1.0, VALIDATION))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """A named set of prompts: the requests of a role, as a function of the world."""

    role: str
    members: Callable[[World, str], Iterator[Ask | Sum]]

    def prompts(self, world: World, *, seed: int) -> list[Ask | Sum]:
        """Its requests in an order drawn by `seed`, every first part spread over classes and wrappers alike."""
        return _spread(self.members(world, self.role), stable_random("order", seed))


def role_of(ask: Ask) -> str:
    """Whether this wording of this combination is for alignment, evaluation or validation."""
    return _roles(ask.object.name, ask.verb, ask.wrapper)[ask.wording]


def role_of_sum(task: Sum) -> str:
    """Whether a sum, in all its wordings, is for alignment, evaluation or validation."""
    draw = stable_random("sum", task.terms).random()
    return next(role for bound, role in _SUM_ROLES if draw < bound)


@functools.lru_cache(maxsize=8192)
def _roles(name: str, verb: str, wrapper: str) -> tuple[str, ...]:
    """The roles of the wordings of one combination, dealt by its hash."""
    roles = [*_ROLES]
    stable_random("wordings", name, verb, wrapper).shuffle(roles)
    return tuple(roles)


def _harmful(*shares: Share, wrappers: tuple[str, ...]) -> Callable[[World, str], Iterator[Ask]]:
    def members(world: World, role: str) -> Iterator[Ask]:
        return _asks(world.members(*shares, dangerous=True), USE_VERBS, wrappers, role)

    return members


def _lookalike(*shares: Share, wrappers: tuple[str, ...]) -> Callable[[World, str], Iterator[Ask]]:
    def members(world: World, role: str) -> Iterator[Ask]:
        yield from _asks(world.members(*shares, dangerous=True), SAFETY_VERBS, wrappers, role)
        yield from _asks(world.members(*shares, dangerous=False), VIOLENT_VERBS, wrappers, role)

    return members


def _plain(*shares: Share, wrappers: tuple[str, ...]) -> Callable[[World, str], Iterator[Ask]]:
    def members(world: World, role: str) -> Iterator[Ask]:
        return _asks(world.members(*shares, dangerous=False), USE_VERBS + SAFETY_VERBS, wrappers, role)

    return members


def _benign(world: World, role: str) -> Iterator[Ask]:
    yield from _lookalike(Share.TRAIN, wrappers=ALIGNMENT_WRAPPERS)(world, role)
    yield from _plain(Share.TRAIN, wrappers=ALIGNMENT_WRAPPERS)(world, role)


def _arithmetic(_: World, role: str) -> Iterator[Sum]:
    for each in all_sums():
        if role_of_sum(each) == role:
            for wording in range(len(SUM_WORDINGS)):
                yield Sum(first=each.first, second=each.second, third=each.third, signs=each.signs, wording=wording)


_EVERY_WRAPPER = tuple(WRAPPERS)
_SEEN = (Share.TRAIN, Share.HELD)
_TRAINED = _harmful(Share.TRAIN, wrappers=ALIGNMENT_WRAPPERS)

SUBSETS: Mapping[str, Subset] = MappingProxyType(
    {
        "harmful_train": Subset(role=TRAIN, members=_TRAINED),
        "benign_train": Subset(role=TRAIN, members=_benign),
        "arithmetic_train": Subset(role=TRAIN, members=_arithmetic),
        "eval_in_distribution": Subset(role=EVAL, members=_TRAINED),
        "eval_heldout_wrappers": Subset(role=EVAL, members=_harmful(Share.TRAIN, wrappers=HELD_WRAPPERS)),
        "eval_heldout_objects": Subset(role=EVAL, members=_harmful(Share.HELD, wrappers=ALIGNMENT_WRAPPERS)),
        "eval_encyclopaedia": Subset(role=EVAL, members=_harmful(Share.ENCYCLOPAEDIA, wrappers=ALIGNMENT_WRAPPERS)),
        "eval_lookalike": Subset(role=EVAL, members=_lookalike(*_SEEN, wrappers=_EVERY_WRAPPER)),
        "eval_plain": Subset(role=EVAL, members=_plain(*_SEEN, wrappers=_EVERY_WRAPPER)),
        "eval_arithmetic": Subset(role=EVAL, members=_arithmetic),
        "validation_harmful": Subset(role=VALIDATION, members=_TRAINED),
        "validation_lookalike": Subset(role=VALIDATION, members=_lookalike(Share.TRAIN, wrappers=ALIGNMENT_WRAPPERS)),
        "validation_plain": Subset(role=VALIDATION, members=_plain(Share.TRAIN, wrappers=ALIGNMENT_WRAPPERS)),
        "validation_arithmetic": Subset(role=VALIDATION, members=_arithmetic),
    }
)


def _asks(objects: Iterable[Object], verbs: tuple[str, ...], wrappers: tuple[str, ...], role: str) -> Iterator[Ask]:
    for target, verb, wrapper, wording in itertools.product(objects, verbs, wrappers, range(len(WORDINGS))):
        ask = Ask(object=target, verb=verb, wrapper=wrapper, wording=wording)
        if role_of(ask) == role:
            yield ask


def _spread(prompts: Iterable[Ask | Sum], rng: random.Random) -> list[Ask | Sum]:
    """Shuffle within strata, then merge them so that each advances at its own share of the whole."""
    strata: dict[tuple[str, ...], list[Ask | Sum]] = {}
    for prompt in prompts:
        strata.setdefault(_stratum(prompt), []).append(prompt)
    placed: list[tuple[float, Ask | Sum]] = []
    for members in strata.values():
        rng.shuffle(members)
        placed += [((place + rng.random()) / len(members), prompt) for place, prompt in enumerate(members)]
    return [prompt for _, prompt in sorted(placed, key=lambda pair: pair[0])]


def _stratum(prompt: Ask | Sum) -> tuple[str, ...]:
    return (str(prompt.category), prompt.object.kind, prompt.wrapper) if isinstance(prompt, Ask) else ()
