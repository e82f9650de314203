"""Datasets of pairs: exact ids, TRL's columns, and nothing lost in silence."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract import tiny_models
from tests.unit.trainer.pair_builders import TEMPLATE, TOKENIZER, export_pairs, pair_of
from tests.unit.trainer.trainer_builders import MemoryStore, example_of, export_examples, prompt_of

from tracemend.kit.errors import SetupError
from tracemend.records import Unit
from tracemend.redaction import Text
from tracemend.trainer import dataset
from tracemend.trainer.assembly import Assembled
from tracemend.trainer.example_table import EXAMPLES
from tracemend.trainer.pair_dataset import read_pairs
from tracemend.trainer.pair_table import PAIRS, ServedPair
from tracemend.trainer.serving import Serving
from tracemend.trainer.tables import decode_rows, digest_of_rows

SERVING = Serving(TEMPLATE, TOKENIZER)
SOME = [pair_of(0), pair_of(1), pair_of(2, kind="natural", shared=0), pair_of(3, kind="benign", shared=0)]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
IDS = st.lists(st.integers(0, 2**31), max_size=5).map(tuple)


def rows_of(pairs):
    return PAIRS.rows(SERVING.serve(pair) for pair in pairs)


@pytest.mark.parametrize(
    ("table", "record"), [(EXAMPLES, example_of(1)), (PAIRS, SERVING.serve(SOME[0]))], ids=["examples", "pairs"]
)
def test_a_table_names_every_column_of_its_rows_in_order(table, record):
    assert list(table.row(record)) == list(table.columns)
    described = {name for names in table.meanings for name in names.split(", ")}
    assert described == set(table.columns)
    assert {*table.counted, *table.measured} <= set(table.columns)


@settings(deadline=None, max_examples=50)
@given(st.lists(TEXT, min_size=5, max_size=5), st.lists(IDS, min_size=3, max_size=3), st.integers(0, 9))
def test_any_text_and_any_ids_survive(texts, ids, h):
    prompt = dataclasses.replace(prompt_of(1, tag=texts[0]), text=Text(texts[1]), reference=Text(texts[2]))
    sides = {"chosen": Text(texts[3]), "rejected": Text(texts[4]), "chosen_tokens": ids[0], "rejected_tokens": ids[1]}
    pair = pair_of(1, prompt=prompt, unit=Unit(arm="arm", prompt=prompt.id, sample=-1), prefix_tokens=h, **sides)
    served = ServedPair(pair=pair, prompt=Text(texts[2]), prompt_tokens=ids[2])
    (row,) = decode_rows(PAIRS.encode(PAIRS.rows([served])))
    assert PAIRS.record(row, "arm") == served


def test_exported_pairs_read_back(tmp_path):
    folder = export_pairs(SOME, tmp_path / "set")
    assert read_pairs(folder) == SOME
    manifest = dataset.read_manifest(folder)
    assert (manifest.kind, manifest.num_rows) == ("pairs", 4)
    assert manifest.counts["kind/intervened"] == 2
    assert manifest.counts["variant/trigger"] == 4


@pytest.mark.parametrize(
    "change",
    [
        {"chosen_tokens": (1, 2)},
        {"rejected_tokens": (1, 2)},
        {"prefix_tokens": 3},
        {"chosen": Text("other")},
        {"trigger": Text("other")},
        {"round": 2},
        {"detector": "other"},
        {"judge": "other"},
        {"verifier": "other"},
        {"kind": "natural"},
        {"unit": Unit(arm="arm", prompt="prompt_0001", sample=1, variant="trigger")},
        {"prompt": dataclasses.replace(prompt_of(1), licence="MIT")},
    ],
)
def test_the_digest_sees_every_change_of_a_pair(change):
    changed = [SOME[0], dataclasses.replace(SOME[1], **change), *SOME[2:]]
    assert digest_of_rows(rows_of(changed)) != digest_of_rows(rows_of(SOME))
    assert digest_of_rows(rows_of(SOME)) == digest_of_rows(rows_of(SOME))


def test_the_digest_is_not_of_the_arm():
    other = [dataclasses.replace(pair, unit=dataclasses.replace(pair.unit, arm="other")) for pair in SOME]
    assert digest_of_rows(rows_of(other)) == digest_of_rows(rows_of(SOME))


def test_a_lost_or_changed_pair_is_an_error_and_not_a_smaller_dataset(tmp_path):
    folder = export_pairs(SOME, tmp_path / "set")
    (shard,) = (folder / "data").iterdir()
    one_id_more = dataclasses.replace(SOME[3], chosen_tokens=(*SOME[3].chosen_tokens, 5))
    shard.write_bytes(PAIRS.encode(rows_of([*SOME[:3], one_id_more])))
    with pytest.raises(SetupError, match="changed"):
        read_pairs(folder)
    shard.write_bytes(PAIRS.encode(rows_of(SOME[:3])))
    with pytest.raises(SetupError, match="3 rows, the manifest says 4"):
        read_pairs(folder)


def test_a_dataset_of_the_other_kind_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(SetupError, match=r"holds examples, and pairs are wanted: set assemble\.kind"):
        read_pairs(export_examples([example_of(1)], tmp_path / "examples"))
    with pytest.raises(SetupError, match=r"holds pairs, and examples are wanted.*arm 'arm'"):
        dataset.read_examples(export_pairs(SOME, tmp_path / "pairs"))


def test_the_prompts_of_a_shard_are_told_for_either_kind(tmp_path):
    async def told(table, records):
        store = MemoryStore()
        assembled = Assembled(rows=tuple(records))
        manifest = await dataset.publish(store, assembled, table, arm="arm", judges={}, rows_per_shard=2)
        return [sorted(await dataset.prompts_in(store, shard)) for shard in manifest.shards]

    of_pairs = asyncio.run(told(PAIRS, [SERVING.serve(pair) for pair in SOME]))
    of_examples = asyncio.run(told(EXAMPLES, [example_of(number) for number in range(4)]))
    assert of_pairs == of_examples == [["prompt_0000", "prompt_0001"], ["prompt_0002", "prompt_0003"]]


def test_the_card_of_pairs_states_what_was_measured_and_shows_no_text(tmp_path):
    card = (export_pairs(SOME, tmp_path / "set") / "README.md").read_text(encoding="utf-8")
    assert "| intervened | 2 | 50.0% |" in card
    assert "## By variant" in card
    assert "`prefix_tokens`: number of response ids that the two sides share" in card
    assert not any(text.reveal() in card for pair in SOME for text in (pair.chosen, pair.rejected, pair.prompt.text))


def test_the_text_of_a_served_prompt_gives_the_served_ids():
    served = SERVING.serve(SOME[0])
    assert served.prompt_tokens == TEMPLATE.prompt_tokens(SOME[0].prompt.text)
    assert tuple(TOKENIZER(served.prompt.reveal())["input_ids"]) == served.prompt_tokens
    instructed = Serving(TEMPLATE, TOKENIZER, system="be brief").serve(SOME[0])
    assert instructed.prompt_tokens == TEMPLATE.prompt_tokens(SOME[0].prompt.text, system="be brief")
    assert "be brief" in instructed.prompt.reveal()


def test_a_beginning_token_that_the_tokenizer_adds_is_left_to_it():
    """Llama's template writes the token and its tokenizer adds it: text with the token in it would get it twice."""
    from tokenizers.processors import TemplateProcessing

    adding = tiny_models.build_tokenizer()
    begin = tiny_models.SYSTEM
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, adding.convert_tokens_to_ids(begin))]
    )
    adding.chat_template = f"{{{{ '{begin}' }}}}{tiny_models.TEMPLATE}"
    template = type(TEMPLATE).load(adding)
    served = Serving(template, adding).serve(SOME[0])
    assert served.prompt_tokens[0] == adding.convert_tokens_to_ids(begin)
    assert tuple(adding(served.prompt.reveal())["input_ids"]) == served.prompt_tokens


def load(folder: Path, cache: Path):
    import datasets

    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


def test_an_exported_folder_loads_with_datasets_in_the_preference_format(tmp_path):
    loaded = load(export_pairs(SOME, tmp_path / "set"), tmp_path / "cache")
    assert {"prompt", "chosen", "rejected"} <= set(loaded.column_names)
    assert loaded["chosen"] == [pair.chosen.reveal() for pair in SOME]
    assert [tuple(ids) for ids in loaded["rejected_ids"]] == [pair.rejected_tokens for pair in SOME]


@pytest.mark.slow
def test_trl_prepares_the_very_ids_and_trains_on_them(tmp_path):
    """The data as DPOTrainer tokenises it, and one step on a tiny model."""
    from trl import DPOConfig, DPOTrainer

    model = tiny_models.build(tmp_path / "model")
    loaded = load(export_pairs(SOME, tmp_path / "set"), tmp_path / "cache")
    arguments = DPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True
    )
    trainer = DPOTrainer(model=str(model), args=arguments, train_dataset=loaded, processing_class=TOKENIZER)
    for prepared, pair in zip(trainer.train_dataset, SOME, strict=True):
        assert tuple(prepared["prompt_ids"]) == TEMPLATE.prompt_tokens(pair.prompt.text)
        assert tuple(prepared["chosen_ids"]) == pair.chosen_tokens
        assert tuple(prepared["rejected_ids"]) == pair.rejected_tokens
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize(
    ("table", "records", "columns"),
    [
        (PAIRS, [SERVING.serve(pair) for pair in SOME], ["prompt", "chosen", "rejected"]),
        (EXAMPLES, [example_of(1), example_of(2)], ["messages"]),
    ],
    ids=["pairs", "examples"],
)
def test_an_export_can_say_its_rows_in_trls_format_and_no_column_more(table, records, columns, tmp_path):
    from datasets import load_dataset

    async def write():
        store = MemoryStore()
        manifest = await dataset.publish(store, Assembled(rows=records, cuts={}), table, arm="arm", judges={})
        return await dataset.export(store, manifest, tmp_path / "set", spoken=True)

    folder = asyncio.run(write())
    spoken = load_dataset("json", data_files=str(folder / "trl.jsonl"), split="train", cache_dir=str(tmp_path / "c"))
    assert spoken.column_names == columns
    assert len(spoken) == len(records)
    whole = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "d"))
    assert whole.column_names == list(table.columns), "the lines are no shard"
    if table is PAIRS:
        assert [row["chosen"] for row in spoken] == [row["chosen"] for row in whole]
    else:
        user, reply = spoken[0]["messages"]
        assert (user["content"], reply["content"]) == (whole[0]["prompt"], whole[0]["answer"])
        assert reply["reasoning_content"] == whole[0]["reasoning"]
    assert "trl.jsonl" in (folder / "README.md").read_text()
