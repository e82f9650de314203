"""Trigger pools: the sentences that interventions insert where a reasoning turns to complying.

A pool is data: a YAML list of `{id, text, kind}` in a folder `trigger_pools` of any package of the `tracemend`
namespace, named by its file, or a file of the user's own. Strategies read pools here; guards and analyses are handed
triggers by whoever composes them. Invariants: a trigger is one line without surrounding white space; its id is unique
in its pool and enters units, so it never changes for equal words.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

import tracemend
from tracemend.kit.errors import SetupError
from tracemend.kit.paths import path_of
from tracemend.kit.registry import did_you_mean
from tracemend.redaction import Text

_FOLDER = "trigger_pools"
_SUFFIXES = (".yaml", ".yml")


class TriggerKind(StrEnum):
    """What a sentence is inserted for."""

    SAFETY = "safety"
    """To turn the reasoning to safety (methods.md §8 [P])."""
    NEUTRAL = "neutral"
    """As the control: what cutting and sampling anew does by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One sentence."""

    id: str
    """Unique in its pool; the variant of the units that use it."""
    text: Text
    kind: TriggerKind = TriggerKind.SAFETY
    pool: str = ""
    """The name of the pool that it was read from."""


def pool(name: str) -> tuple[Trigger, ...]:
    """The triggers of the pool called `name`, or of the YAML file with that path, in order.

    Raises `SetupError` where there is no such pool, or where it does not hold what a pool holds.
    """
    if name.endswith(_SUFFIXES):
        return _of_file(path_of(name))
    known = _known()
    if name not in known:
        raise SetupError(f"no trigger pool '{name}'{did_you_mean(name, sorted(known))}, or a .yaml file of your own")
    return _of_file(known[name])


def pools() -> tuple[str, ...]:
    """The names of the pools that come with the installed packages, sorted."""
    return tuple(sorted(_known()))


def find_triggers(chosen: str | Sequence[str]) -> tuple[Trigger, ...]:
    """The triggers of a pool, or those that a list names as `POOL/ID`, in the list's order; `SetupError` otherwise."""
    if isinstance(chosen, str):
        return pool(chosen)
    found = tuple(_one(reference) for reference in chosen)
    if not found:
        raise SetupError("name at least one trigger, as POOL/ID, or a whole pool")
    _check_ids_differ(found, where="the list of triggers")
    return found


def _one(reference: str) -> Trigger:
    name, _, wanted = reference.rpartition("/")
    if not name:
        raise SetupError(f"'{reference}' names no trigger: write POOL/ID, as in safety/{pool('safety')[0].id}")
    by_id = {trigger.id: trigger for trigger in pool(name)}
    if wanted not in by_id:
        raise SetupError(f"no trigger '{wanted}' in pool '{name}'{did_you_mean(wanted, list(by_id))}")
    return by_id[wanted]


@functools.cache
def _known() -> Mapping[str, Path]:
    """Pool name to its file."""
    return {file.stem: file for file in _files()}


def _files() -> Iterator[Path]:
    for root in tracemend.__path__:
        for suffix in _SUFFIXES:
            yield from Path(root).glob(f"*/{_FOLDER}/*{suffix}")


@functools.cache
def _of_file(path: Path) -> tuple[Trigger, ...]:
    """Kept: strategies are made anew for every unit."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(f"no trigger pool at {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SetupError(f"{path} cannot be read as a trigger pool: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise SetupError(f"{path}: a trigger pool is a list of entries with `id` and `text`, and not an empty one")
    found = tuple(
        _trigger(entry, f"{path}: entry {number}", path.stem) for number, entry in enumerate(entries, start=1)
    )
    _check_ids_differ(found, where=str(path))
    return found


def _trigger(entry: Any, where: str, pool_name: str) -> Trigger:
    """One entry; what else it says (counts of a mined sentence, say) is for readers."""
    if not isinstance(entry, dict) or not {"id", "text"} <= entry.keys():
        raise SetupError(f"{where} needs `id` and `text`")
    text, kind = " ".join(str(entry["text"]).split()), str(entry.get("kind", TriggerKind.SAFETY))
    if not text:
        raise SetupError(f"{where}: the text is empty")
    if kind not in list(TriggerKind):
        raise SetupError(f"{where}: kind '{kind}'{did_you_mean(kind, [item.value for item in TriggerKind])}")
    return Trigger(id=str(entry["id"]), text=Text(text), kind=TriggerKind(kind), pool=pool_name)


def _check_ids_differ(found: Sequence[Trigger], *, where: str) -> None:
    ids = [trigger.id for trigger in found]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise SetupError(f"{where}: triggers need ids of their own; more than one is called {', '.join(twice)}")
