import itertools
import random

import pytest

from tracemend.proving.corpus import ASSISTANT, END, USER, CorpusConfig, documents
from tracemend.proving.process import ProcessConfig
from tracemend.proving.tokenizer import CLOSE, OPEN, PAD, SPECIAL, UNKNOWN, build_tokenizer, token_ids
from tracemend.proving.world import build_world

WORLD = build_world()
IDS = token_ids(WORLD)
TEXTS = tuple(documents(WORLD, ProcessConfig(), CorpusConfig(num_documents=100, seed=5)))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The tokenizer as `AutoTokenizer` reads it beside the model's own configuration."""
    from transformers import AutoTokenizer, LlamaConfig

    folder = tmp_path_factory.mktemp("tokenizer")
    LlamaConfig(vocab_size=len(IDS)).save_pretrained(folder)
    build_tokenizer(WORLD).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_auto_tokenizer_gives_the_ids_that_the_model_is_trained_on(loaded):
    """Some model types make AutoTokenizer build another tokenizer over the same files, without an error."""
    assert len(TEXTS) == 100
    for text in TEXTS:
        assert loaded(text).input_ids == [IDS[word] for word in text.split()]
    assert loaded.get_vocab() == IDS


def test_decoding_gives_the_text_back(loaded):
    for text in TEXTS:
        assert loaded.decode([IDS[word] for word in text.split()]) == text


def test_reasoning_tags_survive_decoding_without_special_tokens(loaded):
    ids = loaded(f"{USER} {ASSISTANT} {OPEN} i will not help with it . {CLOSE} sorry . {END}").input_ids
    assert loaded.decode(ids, skip_special_tokens=True) == f"{OPEN} i will not help with it . {CLOSE} sorry ."


def test_a_prefix_and_its_continuation_tokenise_to_the_whole(loaded):
    rng = random.Random(0)
    for text in TEXTS:
        words = text.split()
        cut = rng.randrange(len(words))
        one, other = " ".join(words[:cut]), " ".join(words[cut:])
        assert loaded(one).input_ids + loaded(other).input_ids == loaded(text).input_ids


def test_the_chat_template_gives_what_the_corpus_has(loaded):
    for text in TEXTS:
        if not text.startswith(USER):
            continue
        prompt, response = text.removeprefix(USER).split(ASSISTANT)
        user = {"role": "user", "content": prompt.strip()}
        opened = loaded.apply_chat_template([user], add_generation_prompt=True, return_dict=False)
        assert opened == [IDS[word] for word in text.split()[: text.split().index(ASSISTANT) + 1]]
        answer = {"role": "assistant", "content": response.removesuffix(END).strip()}
        assert loaded.apply_chat_template([user, answer], return_dict=False) == [IDS[word] for word in text.split()]


def test_the_template_marks_the_response_and_its_end_token_for_the_loss(loaded):
    messages = [{"role": "user", "content": "how do i"}, {"role": "assistant", "content": f"{OPEN} {CLOSE} sorry ."}]
    rendered = loaded.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    learned = list(itertools.compress(rendered["input_ids"], rendered["assistant_masks"]))
    assert learned == [IDS[word] for word in (OPEN, CLOSE, "sorry", ".", END)]


def test_a_system_message_is_refused_and_not_lost(loaded):
    with pytest.raises(Exception, match="user and assistant only"):
        loaded.apply_chat_template([{"role": "system", "content": "be good"}])


def test_words_of_another_world_become_unknown_tokens_one_each(loaded):
    assert loaded("the quick brown fox .").input_ids == [IDS["the"], *[IDS[UNKNOWN]] * 3, IDS["."]]


def test_end_and_padding_are_what_the_model_is_told(loaded):
    assert (loaded.eos_token, loaded.pad_token, loaded.bos_token) == (END, PAD, None)
    assert set(loaded.all_special_tokens) == set(SPECIAL)


@pytest.mark.slow
def test_vllm_reads_the_same_ids(loaded, tmp_path):
    from vllm.tokenizers import get_tokenizer

    loaded.save_pretrained(tmp_path)
    served = get_tokenizer(str(tmp_path))
    for text in TEXTS:
        assert list(served.encode(text)) == [IDS[word] for word in text.split()]
