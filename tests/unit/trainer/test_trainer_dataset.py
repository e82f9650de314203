"""Datasets: what is written is what is read, and nothing is lost in silence."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.trainer.trainer_builders import MemoryStore, example_of, export_examples, prompt_of

from tracemend.kit.errors import SetupError
from tracemend.records import OutcomeState, Unit
from tracemend.redaction import Text
from tracemend.trainer import dataset
from tracemend.trainer.assembly import Assembled
from tracemend.trainer.example_table import EXAMPLES
from tracemend.trainer.tables import decode_rows, digest_of_rows

SOME = [example_of(number) for number in range(7)]


def publish(examples, *, rows_per_shard=3, arm="arm"):
    store = MemoryStore()
    assembled = Assembled(rows=tuple(examples), cuts={"duplicate": 2})
    manifest = asyncio.run(
        dataset.publish(store, assembled, EXAMPLES, arm=arm, judges={"harm": "exact"}, rows_per_shard=rows_per_shard)
    )
    return store, manifest


def digest_of(examples):
    return digest_of_rows(EXAMPLES.rows(examples))


def test_rows_are_published_in_shards_and_counted():
    store, manifest = publish(SOME)
    shards = [decode_rows(store.blobs[shard]) for shard in manifest.shards]
    assert [EXAMPLES.record(row, "arm") for shard in shards for row in shard] == SOME
    assert [len(shard) for shard in shards] == [3, 3, 1]
    assert (manifest.kind, manifest.num_rows) == ("examples", 7)
    assert manifest.counts["state/kept"] == 7
    assert manifest.counts["cut/duplicate"] == 2


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=0), min_size=4, max_size=4))
def test_any_text_survives(texts):
    prompt = dataclasses.replace(prompt_of(1, tag=texts[0]), text=Text(texts[1]), reference=Text(texts[2]))
    example = example_of(1, prompt=prompt, reasoning=texts[2], answer=texts[3], original_answer=Text(texts[0]))
    (row,) = decode_rows(EXAMPLES.encode(EXAMPLES.rows([example])))
    assert EXAMPLES.record(row, "arm") == example


def test_the_digest_is_of_the_rows_and_not_of_their_packing():
    digests = {publish(SOME, rows_per_shard=size)[1].digest for size in (1, 3, 100)}
    assert digests == {publish(SOME, arm="other")[1].digest}


def test_datasets_that_were_published_keep_their_digest():
    """Trained checkpoints are found again by it."""
    assert digest_of(SOME) == "6d7c3c458cffd8aebc820f60b1f78b95f232d55f7211b0e1756e5cf5f942ea82"


@pytest.mark.parametrize(
    "change",
    [
        {"reasoning": Text("other")},
        {"answer": Text("other")},
        {"state": OutcomeState.CORRECTED},
        {"strategy": "rewrite"},
        {"unit": Unit(arm="arm", prompt="prompt_0003", sample=1)},
        {"prompt": dataclasses.replace(prompt_of(3), licence="MIT")},
    ],
)
def test_the_digest_sees_every_change_of_a_row(change):
    changed = [*SOME[:3], dataclasses.replace(SOME[3], **change), *SOME[4:]]
    assert digest_of(changed) != digest_of(SOME)


def test_the_digest_sees_the_order():
    assert digest_of(SOME[::-1]) != digest_of(SOME)


def test_an_exported_folder_reads_back(tmp_path):
    folder = export_examples(SOME, tmp_path / "set")
    assert dataset.read_examples(folder) == SOME
    assert export_examples(SOME[:2], tmp_path / "set") == folder
    assert dataset.read_examples(folder) == SOME[:2]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_exported_folder_loads_with_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    folder = export_examples(SOME, tmp_path / "set")
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["answer"] == [example.answer.reveal() for example in SOME]
    assert loaded.num_rows == 7


def test_the_card_states_what_was_measured_and_shows_no_text(tmp_path):
    rows = [dataclasses.replace(example, original_answer=Text("forbidden words")) for example in SOME]
    card = (export_examples(rows, tmp_path / "set") / "README.md").read_text()
    assert "rows: 7" in card
    assert "| CC0-1.0 | 7 | 100.0% |" in card
    assert "SYNTHETIC" not in card
    assert not any(text.reveal() in card for row in rows for text in (row.answer, row.reasoning, row.original_answer))


HOSTILE = "by\n---\n# mine: {[*&!|'\"\\ <script>\t`x` | 9 | 100 %\u2028"


def test_what_rows_say_of_themselves_breaks_neither_header_nor_table(tmp_path):
    import datasets

    rows = [
        dataclasses.replace(each, prompt=dataclasses.replace(each.prompt, licence=HOSTILE, source=HOSTILE))
        for each in SOME
    ]
    card = (export_examples(rows, tmp_path / "set") / "README.md").read_text(encoding="utf-8")
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["license_name"] == "by-mine-script-x-9-100"
    assert len(re.findall("^# ", body, re.MULTILINE)) == 1
    assert "<script>" not in body.replace("\\<", "")
    tables = [line for line in body.splitlines() if line.startswith("| by ")]
    assert len(tables) == 2
    assert all(len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) == 5 and "| 7 | 100.0% |" in line for line in tables)
    loaded = datasets.load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 7


def test_the_card_claims_no_more_than_was_judged(tmp_path):
    """Benign and reasoning rows are judged by the answer, and not on harm."""
    card = (export_examples(SOME, tmp_path / "set") / "README.md").read_text()
    assert "judges found safe" not in card
    assert "judged by the answer alone" in card


def test_rows_of_the_proving_ground_are_announced(tmp_path):
    rows = [example_of(n, prompt=dataclasses.replace(prompt_of(n), source="proving")) for n in range(2)]
    assert "SYNTHETIC**: 50%" in (export_examples([*rows, *SOME[2:4]], tmp_path / "set") / "README.md").read_text()


def test_a_lost_or_changed_shard_is_an_error_and_not_a_smaller_dataset(tmp_path):
    folder = export_examples(SOME, tmp_path / "set")
    shard = next((folder / "data").iterdir())
    changed = [*SOME[:6], dataclasses.replace(SOME[6], answer=Text("new"))]
    shard.write_bytes(EXAMPLES.encode(EXAMPLES.rows(changed)))
    with pytest.raises(SetupError, match="changed"):
        dataset.read_examples(folder)
    shard.unlink()
    with pytest.raises(SetupError, match="0 rows, the manifest says 7"):
        dataset.read_examples(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(SetupError, match="no exported dataset"):
        dataset.read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps([]))
    with pytest.raises(SetupError, match="no exported dataset"):
        dataset.read_manifest(tmp_path)
