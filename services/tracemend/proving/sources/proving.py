"""Prompt source `proving`: the sets of the proving ground, generated and never read from a file."""

from __future__ import annotations

from collections.abc import Iterator

from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean
from tracemend.proving.splits import SUBSETS
from tracemend.proving.world import Ask, Sum, WorldConfig, build_world
from tracemend.redaction import Text


@sources.register
def proving(*, subset: str, limit: int | None = None, seed: int = 0, world_seed: int = 0) -> Iterator[Row | BadRow]:
    """Rows of `subset` in an order drawn by `seed`, the first `limit` of them if it is given.

    Every first part is spread evenly over classes and wrappers. Raises `SetupError` for an unknown subset and for a
    negative limit.
    """
    if subset not in SUBSETS:
        raise SetupError(f"unknown proving subset '{subset}'{did_you_mean(subset, sorted(SUBSETS))}")
    if limit is not None and limit < 0:
        raise SetupError(f"limit of proving subset '{subset}' is {limit}; give a number of prompts, or leave it out")
    prompts = SUBSETS[subset].prompts(build_world(WorldConfig(seed=world_seed)), seed=seed)
    return (_row(prompt, subset, number) for number, prompt in enumerate(prompts[:limit], start=1))


def _row(prompt: Ask | Sum, subset: str, number: int) -> Row:
    assert prompt.category is not None, "subsets hold requests of the world only"
    return Row(
        text=Text(prompt.text()),
        category=prompt.category,
        source="proving",
        where=f"proving:{subset}:{number}",
        licence="Apache-2.0",
        split=subset.removeprefix("eval_"),
        tags=_tags(prompt) if isinstance(prompt, Ask) else {},
        reference=Text(str(prompt.result)) if isinstance(prompt, Sum) else Text(""),
    )


def _tags(ask: Ask) -> dict[str, str]:
    return {"object": ask.object.name, "verb": ask.verb, "wrapper": ask.wrapper, "class": ask.object.kind}
