"""Tokenizers and chat templates like those of real families, built in place: no weights, no hub.

The templates are written for these tests; they do what the families' own do where it matters here. Tests over the
templates that ship with TRL stand beside them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TAGS = ("<think>", "</think>")
CORPUS = (
    "First, the user asks a question. I need to think about what it means, and then answer.\n\n"
    "Wait, is that right? Let me check: 6 times 7 is 42. So the answer is 42.\n"
) * 4

# DeepSeek's: assistant turns lose everything up to the closing tag, the newer one opens the block for the model.
R1 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'] }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% endif %}"
    "{% if m['role'] == 'assistant' %}"
    "{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>GENERATE' }}{% endif %}"
)
R1_OPENING = R1.replace("GENERATE", r"<think>\n")
R1_OLD = R1.replace("GENERATE", "")
R1_CONTROLS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")

# Qwen3's: a switch that closes an empty block in the prompt, reasoning kept on the last assistant turn only.
QWEN3 = (
    "{% for m in messages %}{% set words = m['content'] %}"
    "{% if m['role'] == 'assistant' and not loop.last %}{% set words = words.split('</think>')[-1] %}{% endif %}"
    r"{{ '<|im_start|>' + m['role'] + '\n' + words + '<|im_end|>\n' }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    r"{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
QWEN3_CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# How Llama 3 and Qwen cut text into words: a line break joins the punctuation before it, a space the word behind it.
_WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = _WORD_PATTERN.replace("NUMBER", r"\p{N}{1,3}")
QWEN_WORDS = _WORD_PATTERN.replace("NUMBER", r"\p{N}")

# Llama 3's: contents are trimmed and today's date is printed.
LLAMA = (
    r"{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + strftime_now('%d %b %Y') }}"
    "{{ '<|eot_id|>' }}{% for m in messages %}"
    r"{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    r"{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA_CONTROLS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

# A word-level model of our own kind: every tag stands apart, the model writes both reasoning tags.
WORDS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WORDS_CONTROLS = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")


def byte_level(
    template: str,
    controls: Sequence[str],
    *,
    tags: Sequence[str] = TAGS,
    eos: str | None = None,
    normalizer: Any = None,
    words: str = "",
    corpus: str = CORPUS,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `controls` as special tokens and `tags` as ordinary added ones, as in R1 and Qwen3. `words`
    is the pattern that a family cuts text into words by; GPT-2's where it is not given."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if words:
        split = pre_tokenizers.Split(Regex(words), behavior="isolated")
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    core.decoder = decoders.ByteLevel()
    if normalizer is not None:
        core.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [corpus], trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    )
    core.add_special_tokens([AddedToken(control, special=True, normalized=False) for control in controls])
    core.add_tokens([AddedToken(tag, special=False, normalized=normalizer is not None) for tag in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=controls[0], eos_token=eos or controls[1], chat_template=template
    )


def byte_fallback(template: str, controls: Sequence[str], *, eos: str, corpus: str = CORPUS) -> PreTrainedTokenizerFast:
    """SentencePiece's BPE as in Llama 2 and Mistral: a mark for each space and one before the text, and bytes for
    characters that the vocabulary lacks."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    marks_and_bytes = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*marks_and_bytes, decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=pieces, limit_alphabet=40, show_progress=False)
    core.train_from_iterator(corpus.splitlines(), trainer)
    spec = json.loads(core.to_str())
    core = Tokenizer.from_str(json.dumps(spec | {"added_tokens": spec["added_tokens"][:1]}))  # bytes are no control
    core.add_special_tokens([AddedToken(control, special=True, normalized=False) for control in controls])
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, unk_token="<unk>", chat_template=template)


def r1(*, opens: bool = True) -> PreTrainedTokenizerFast:
    return byte_level(R1_OPENING if opens else R1_OLD, R1_CONTROLS)


def qwen3() -> PreTrainedTokenizerFast:
    return byte_level(QWEN3, QWEN3_CONTROLS, eos="<|im_end|>")


def llama(*, tags: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Llama 3 with its stock end-of-text token, which is not what ends a turn."""
    return byte_level(LLAMA, LLAMA_CONTROLS, tags=tags)


def word_level() -> PreTrainedTokenizerFast:
    corpus = f"{CORPUS} check. It The What"
    words = ["<unk>", *WORDS_CONTROLS, *TAGS, *dict.fromkeys(corpus.split())]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens([*WORDS_CONTROLS, "<unk>"])
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", unk_token="<unk>", chat_template=WORDS)


def unigram(*, marks_spaces: bool = True) -> PreTrainedTokenizerFast:
    """A sentencepiece-like model: its control tokens are pieces of the vocabulary, spaces are written as marks."""
    pieces = [("<unk>", 0.0), *((control, 0.0) for control in (*WORDS_CONTROLS, *TAGS))]
    pieces += [(char, -5.0) for char in sorted({*CORPUS.replace(" ", "▁"), *"<|/>abcdefghijklmnopqrstuvwxyz"})]
    core = Tokenizer(models.Unigram(pieces, unk_id=0))
    if marks_spaces:
        core.normalizer = normalizers.Replace(" ", "▁")
        core.decoder = decoders.Replace("▁", " ")
    core.add_special_tokens([*WORDS_CONTROLS, "<unk>"])
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", unk_token="<unk>", chat_template=WORDS)
