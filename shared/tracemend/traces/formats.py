"""How reasoning models mark their reasoning: one record per family of tags.

`split` reads responses by a format, `template` renders prompts and responses by one. A format says who writes the
opening tag; it says nothing about roles, system prompts or special tokens, which are the chat template's.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningFormat:
    """The tags around the reasoning. Both are empty for a model that writes plain answers."""

    name: str
    open_tag: str
    close_tag: str
    opens_in_prompt: bool
    """Whether the prompt ends with the opening tag, so that the response holds the closing tag alone."""

    @property
    def has_reasoning(self) -> bool:
        """Whether responses have a reasoning block at all."""
        return bool(self.close_tag)


FORMATS: dict[str, ReasoningFormat] = {
    reasoning_format.name: reasoning_format
    for reasoning_format in (
        # The model writes both tags itself.
        ReasoningFormat(name="think", open_tag="<think>", close_tag="</think>", opens_in_prompt=False),
        # DeepSeek-R1, its distillations, QwQ, Qwen3-Thinking: the prompt opens the block.
        ReasoningFormat(name="r1", open_tag="<think>", close_tag="</think>", opens_in_prompt=True),
        # Hybrid Qwen3: the model writes both tags; an empty block where it does not think.
        ReasoningFormat(name="qwen3", open_tag="<think>", close_tag="</think>", opens_in_prompt=False),
        ReasoningFormat(name="none", open_tag="", close_tag="", opens_in_prompt=False),
    )
}


def get_format(name: str) -> ReasoningFormat:
    """The format called `name`; a `SetupError` that lists the known names if there is none."""
    try:
        return FORMATS[name]
    except KeyError:
        raise SetupError(f"unknown reasoning format '{name}'{did_you_mean(name, sorted(FORMATS))}") from None
