"""Tiny random-weight models of real architectures, as ordinary Hugging Face folders.

Byte-level BPE tokenizers (merges across spaces and sentence ends, as real ones) and a chat template that keeps
reasoning tags as ordinary text. They say nothing sensible; everything around a model can be tested on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ARCHITECTURES = ("llama", "qwen2", "qwen3")
CONTEXT = 256
END, USER, ASSISTANT, SYSTEM = "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{{ message['content'] }}{{ '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_WORDS = (
    "the quick brown fox jumps over the lazy dog. how do I make bread? first, mix flour and water; then wait. "
    "okay, let me think about this. the answer is 42, because 6 times 7 is 42. wait, is that right? yes. "
) * 8


def build(folder: Path, architecture: str = "llama", *, seed: int = 0, context: int = CONTEXT) -> Path:
    """Write a model with random weights to `folder` and return it; another seed is another model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    tokenizer = build_tokenizer()
    end = tokenizer.convert_tokens_to_ids(END)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": end,
        "tie_word_embeddings": True,
        # Large enough for peaked, varied distributions: at the usual 0.02 a random model writes one token for ever.
        "initializer_range": 0.3,
    }
    if architecture == "qwen3":
        shape["head_dim"] = 32  # the head sizes that vLLM's CPU attention has begin at 32
    else:
        shape |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape)).float()
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_tokenizer() -> Any:
    """A byte-level BPE tokenizer with chat control tokens; reasoning tags are added but not special, as in R1."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator([_WORDS], trainer)
    core.add_special_tokens([END, USER, ASSISTANT, SYSTEM])
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=END, chat_template=TEMPLATE, clean_up_tokenization_spaces=False
    )
