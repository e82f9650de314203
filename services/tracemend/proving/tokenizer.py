"""The tokenizer of the world: one token per word, saved as an ordinary Hugging Face tokenizer with a chat template.

Words are split at white space, so a prefix and its continuation tokenise to the concatenation of their tokens. The
model writes `<think>` itself: the template ends at the assistant tag. The reasoning tags are tokens but not special
ones, so that decoding without special tokens keeps them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracemend.proving.corpus import ASSISTANT, END, USER
from tracemend.proving.grammar import vocabulary
from tracemend.proving.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN = "<|pad|>", "<|unknown|>"
OPEN, CLOSE = "<think>", "</think>"
SPECIAL = (PAD, UNKNOWN, USER, ASSISTANT, END)
MAX_TOKENS = 512

# Tags stand between spaces, as the model writes them. There is no system role: the world has no words for it.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}" + USER + " {{ message.content }} "
    "{%- elif message.role == 'assistant' -%}"
    + ASSISTANT
    + " {% generation %}{{ message.content }} "
    + END
    + "{% endgeneration %} "
    "{%- else -%}{{ raise_exception('the proving ground has the roles user and assistant only') }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}" + ASSISTANT + "{%- endif -%}"
)


def token_ids(world: World) -> dict[str, int]:
    """Token to id: the special tokens, the reasoning tags, then the world's words in order."""
    return {token: number for number, token in enumerate((*SPECIAL, OPEN, CLOSE, *vocabulary(world)))}


def build_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers has it; `save_pretrained` writes what `AutoTokenizer` loads back unchanged."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel(token_ids(world), unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in (OPEN, CLOSE)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )
