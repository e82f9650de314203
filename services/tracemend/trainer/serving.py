"""How the model that pairs come from is served and reads: its ids as text, and a pair's prompt as it was rendered.

The coordinator loads one beside the arm's base model. The text of a served prompt leaves out what the tokenizer adds by
itself, a beginning token for instance, so that whoever tokenises it gets the served ids and not that token twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracemend.records import Pair
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate
from tracemend.trainer.pair_table import ServedPair


class Serving:
    """One model's tokenizer and template with its system prompt."""

    def __init__(self, template: ChatTemplate, tokenizer: Any, *, system: str = "") -> None:
        """`tokenizer` is the template's own, as transformers loads it."""
        self._template = template
        self._system = system
        self._added = _added_before(tokenizer)

    @classmethod
    def load(cls, folder: Path, *, reasoning_format: str, system: str = "") -> Serving:
        """From a model folder; raises what `ChatTemplate.load` raises."""
        from transformers import AutoTokenizer

        template = ChatTemplate.load(folder, reasoning_format)
        return cls(template, AutoTokenizer.from_pretrained(folder, local_files_only=True), system=system)

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Ids that end a response."""
        return self._template.end_token_ids

    def decode(self, token_ids: Sequence[int]) -> Text:
        """The text of `token_ids`, control tokens included."""
        return self._template.decode(token_ids)

    def serve(self, pair: Pair) -> ServedPair:
        """The pair with its prompt as it was served."""
        ids = self._template.prompt_tokens(pair.prompt.text, system=self._system)
        start = len(self._added) if ids[: len(self._added)] == self._added else 0
        return ServedPair(pair=pair, prompt=self.decode(ids[start:]), prompt_tokens=ids)


def _added_before(tokenizer: Any) -> tuple[int, ...]:
    """The ids that the tokenizer puts before any text."""
    probe = "a"
    whole, bare = tokenizer(probe)["input_ids"], tokenizer(probe, add_special_tokens=False)["input_ids"]
    starts = range(len(whole) - len(bare) + 1)
    return tuple(whole[: next((at for at in starts if whole[at : at + len(bare)] == bare), 0)])
