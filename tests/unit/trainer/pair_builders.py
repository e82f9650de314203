"""Pairs of token ids for the trainer's tests, by the tiny models' tokenizer, and exported datasets of them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.contract import tiny_models
from tests.unit.trainer.trainer_builders import MemoryStore, prompt_of, words

from tracemend.records import Category, Pair, Unit
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate
from tracemend.trainer import dataset
from tracemend.trainer.assembly import Assembled
from tracemend.trainer.pair_rows import PairRow, PairSpans, render_pairs
from tracemend.trainer.pair_table import PAIRS, ServedPair
from tracemend.trainer.settings import TrainSettings
from tracemend.trainer.training import TrainingJob

TOKENIZER = tiny_models.build_tokenizer()
TEMPLATE = ChatTemplate.load(TOKENIZER)


def ids(text: str) -> tuple[int, ...]:
    """The ids of `text`, in which tags and the end token are control tokens."""
    return tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def pair_of(
    number: int,
    *,
    kind: str = "intervened",
    shared: int = 12,
    chosen: str | None = None,
    rejected: str | None = None,
    **changes: Any,
) -> Pair:
    """A pair whose sides share `shared` words of reasoning, and differ in the rest of it and in the answer."""
    prefix = ids("<think>\n" + words(shared, start=number)) if shared else ()
    opening = "" if shared else "<think>\n"
    chosen = f" wait, {words(5 + number % 4, start=number)}\n</think>\n\n{words(4)}" if chosen is None else chosen
    rejected = f" yes. {words(7, start=2 * number)}\n</think>\n\n{words(3, start=5)}" if rejected is None else rejected
    ends = ids(tiny_models.END)
    sides = [prefix + ids(opening + rest) + ends for rest in (chosen, rejected)]
    prompt = prompt_of(number, Category.BENIGN if kind == "benign" else Category.HARMFUL)
    pair = Pair(
        id=f"pair_{number:04d}",
        unit=Unit(arm="arm", prompt=prompt.id, sample=0, variant="trigger"),
        prompt=prompt,
        chosen_tokens=sides[0],
        rejected_tokens=sides[1],
        prefix_tokens=len(prefix),
        trigger=Text(" wait,") if kind == "intervened" else Text(""),
        round=1 if kind == "intervened" else 0,
        kind=kind,
        chosen=TEMPLATE.decode(sides[0]),
        rejected=TEMPLATE.decode(sides[1]),
        detector="detector",
        judge="judge",
        verifier="verifier",
    )
    return dataclasses.replace(pair, **changes)


def rows_of(pairs: Sequence[Pair], *, system: str = "", **spans: Any) -> list[PairRow]:
    """The pairs, rendered; the model was served them with the prompt `system`."""
    return render_pairs([served_pair(pair, system=system) for pair in pairs], TEMPLATE, PairSpans(**spans))


def served_pair(pair: Pair, *, template: ChatTemplate = TEMPLATE, system: str = "") -> ServedPair:
    tokens = template.prompt_tokens(pair.prompt.text, system=system)
    return ServedPair(pair=pair, prompt=template.decode(tokens), prompt_tokens=tokens)


def export_pairs(pairs: Sequence[Pair], folder: Path, *, template: ChatTemplate = TEMPLATE) -> Path:
    """A dataset folder with `pairs`, which a model with `template` was served."""
    served = tuple(served_pair(pair, template=template) for pair in pairs)

    async def write() -> Path:
        store = MemoryStore()
        assembled = Assembled(rows=served, cuts={})
        manifest = await dataset.publish(store, assembled, PAIRS, arm="arm", judges={"harm": "j"})
        return await dataset.export(store, manifest, folder)

    return asyncio.run(write())


def pair_job(folder: Path, *, base: Path, pairs: Sequence[Pair], **settings: Any) -> TrainingJob:
    """A job that trains the model in `base` on `pairs`."""
    folder.mkdir(parents=True, exist_ok=True)
    usual = {"algorithm": "intervened_po", "learning_rate": 1e-3, "epochs": 2, "batch_size": 4}
    return TrainingJob(
        arm="arm",
        base=base,
        parent="base",
        dataset=export_pairs(pairs, folder / "dataset", template=ChatTemplate.load(base)),
        folder=folder / "work",
        root=folder,
        settings=TrainSettings(**{**usual, **settings}),
    )
