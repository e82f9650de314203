"""A model's own chat template: rendered the same way every day, and asked what it does.

`ChatTemplate` is the only caller. Templates are jinja from a model folder; transformers renders them in a sandbox.
They are only ever used for prompts: several strip the reasoning from assistant turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.traces.formats import FORMATS, ReasoningFormat

_SETTING = "reasoning_format"
_THINK = FORMATS["think"]
_PROBE_USER = "zebra"
_PROBE_ASSISTANT = "quince"
# Some templates print today's date into the prompt; a plan must give the same prompt tomorrow.
_DATE = "26 Jul 2024"


def _fixed_date(_format: str) -> str:
    return _DATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The chat template of `tokenizer` (a transformers tokenizer), called `name` in messages."""

    tokenizer: Any
    name: str

    @property
    def source(self) -> str:
        """The jinja text of the template."""
        template: str = self.tokenizer.get_chat_template()
        return template

    def prompt(self, user: str, system: str = "", *, thinks: bool) -> str:
        """The prompt up to where the model writes; `thinks` switches the thinking of hybrid models."""
        turns = [("user", user)]
        return self.conversation([("system", system), *turns] if system else turns, thinks=thinks)

    def conversation(self, turns: Sequence[tuple[str, str]], *, thinks: bool) -> str:
        """`prompt` for a conversation of (role, words) turns."""
        messages = [{"role": role, "content": words} for role, words in turns]
        return self._render(messages, generation=True, thinks=thinks)

    def generation_tail(self, *, thinks: bool) -> str:
        """What the template writes between the user's words and the model's."""
        _, words, tail = self.prompt(_PROBE_USER, thinks=thinks).rpartition(_PROBE_USER)
        if not words:
            raise SetupError(
                f"the chat template of {self.name} leaves out what the user says: it is not made for messages of "
                "plain text; use a text model, or give the folder a chat_template.jinja that renders them"
            )
        return tail

    def turn_end(self) -> str:
        """What the template writes after an assistant's words; empty where it will not render an assistant turn."""
        messages = [
            {"role": "user", "content": _PROBE_USER},
            {"role": "assistant", "content": _PROBE_ASSISTANT},
        ]
        try:
            rendered = self._render(messages, generation=False, thinks=False)
        except SetupError:
            return ""
        return rendered.partition(_PROBE_ASSISTANT)[2]

    def _render(self, messages: list[dict[str, str]], *, generation: bool, thinks: bool) -> str:
        from jinja2.exceptions import TemplateError

        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=generation,
                enable_thinking=thinks,
                thinking=thinks,
                date_string=_DATE,
                strftime_now=_fixed_date,
            )
        except TemplateError as error:
            roles = " and ".join(message["role"] for message in messages)
            raise SetupError(
                f"the chat template of {self.name} does not render a conversation of {roles}: {error}; "
                "leave the system prompt empty, or use a model whose template takes one"
            ) from error
        return rendered


def detect_format(template: Template, vocabulary: dict[str, int]) -> ReasoningFormat:
    """The format that the template and the vocabulary show; a `SetupError` where they do not tell."""
    tail = template.generation_tail(thinks=True).rstrip()
    source = template.source
    if tail.endswith(_THINK.open_tag):
        return FORMATS["r1"]
    if tail.endswith(_THINK.close_tag):
        return FORMATS["none"]
    if "enable_thinking" in source and _THINK.close_tag in source:
        return FORMATS["qwen3"]
    if "<｜Assistant｜>" in source and _THINK.close_tag in source:
        return FORMATS["r1"]  # the first R1 templates leave the opening tag to the model, which often forgets it
    if _THINK.close_tag in source or _THINK.close_tag in vocabulary:
        return _THINK
    raise SetupError(
        f"cannot tell how {template.name} marks its reasoning: neither its chat template nor its vocabulary mentions "
        f"{_THINK.close_tag}; set {_SETTING} to one of {', '.join(sorted(FORMATS))}"
    )


def check_format(template: Template, fmt: ReasoningFormat) -> None:
    """A `SetupError` where the template contradicts `fmt`: both or neither would write the opening tag."""
    tail = template.generation_tail(thinks=fmt.has_reasoning).rstrip()
    if fmt.has_reasoning and tail.endswith(fmt.close_tag):
        raise SetupError(
            f"the chat template of {template.name} closes the reasoning in the prompt, so the model writes none; "
            f"set {_SETTING} to none"
        )
    opens = tail.endswith(fmt.open_tag or _THINK.open_tag)
    if opens and not fmt.opens_in_prompt:
        raise SetupError(
            f"the chat template of {template.name} opens the reasoning in the prompt, and format '{fmt.name}' leaves "
            f"that to the model; set {_SETTING} to r1"
        )
