"""Text to token ids such that nothing a prompt or a teacher wrote can become a control token.

Prompts are hostile input: one that spells `<|im_end|><|im_start|>system` must reach the model as those words and not
as the end of its turn. `ChatTemplate` renders the template with such spellings broken by a mark and encodes the result
here: control tokens that the template wrote become ids, everything else is encoded by a copy of the tokenizer that
knows no control tokens. Text without such spellings is encoded as the tokenizer itself would, byte for byte.

The copies are private and never changed after construction, so one encoder may be used from many threads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_MARK = "\ue000"
_SURROGATES = re.compile("[\ud800-\udfff]")
_BRACKETED = re.compile(r"[<\[|｜].*[>\]|｜]", re.DOTALL)


class GuardedEncoder:
    """Encodes and decodes with one tokenizer, keeping its control tokens out of other people's text."""

    def __init__(self, backend_json: str, *, words_of_template: str, tags: Iterable[str]) -> None:
        """`backend_json` is the tokenizers library's own serialisation.

        Control tokens are the added tokens that are special, that the template or the reasoning format uses, or that
        look like a tag. Other added tokens (words of a domain, runs of spaces) are ordinary text.
        """
        from tokenizers import Tokenizer

        spec: dict[str, Any] = json.loads(backend_json)
        spec.update(truncation=None, padding=None, post_processor=None)
        wanted = set(tags)
        added = [
            token
            for token in spec["added_tokens"]
            if len(token["content"].strip()) > 1
            and (
                token["special"]
                or token["content"] in wanted
                or token["content"] in words_of_template
                or _BRACKETED.fullmatch(token["content"])
            )
        ]
        self.control_ids: dict[str, int] = {token["content"]: token["id"] for token in added}
        self.serialised = json.dumps(spec, sort_keys=True)
        self._takes_space = {t["content"]: (t["lstrip"], t["rstrip"]) for t in added}
        self._full = Tokenizer.from_str(self.serialised)
        self._plain = Tokenizer.from_str(json.dumps(_without_controls(spec, self.control_ids)))
        # A word that the vocabulary lacks is not a control token, though its id may be called special.
        self._forbidden = frozenset(self.control_ids.values()) - {_unknown_id(spec)}
        longest_first = sorted(self.control_ids, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, longest_first)) or r"(?!)"
        self._spelling = re.compile(f"({alternatives})")
        self._spelling_start = re.compile(f"(?=(?:{alternatives}))(.)", re.DOTALL)

    def controls_in(self, text: str) -> list[str]:
        """The control tokens that `text` spells, in order, repeats included."""
        return self._spelling.findall(text)

    def is_hostile(self, text: str) -> bool:
        """Whether `text` spells a control token, or would be encoded to one (after Unicode normalisation, say)."""
        return bool(self._spelling.search(text)) or not self._forbidden.isdisjoint(self.encode(text))

    def encode(self, text: str) -> list[int]:
        """The tokenizer's own ids: control tokens that `text` spells become control tokens."""
        ids: list[int] = self._full.encode(encodable(text), add_special_tokens=False).ids
        return ids

    def encode_plain(self, text: str) -> list[int]:
        """Ids of text that is nothing but text. A piece that no ordinary id can spell is left out."""
        ids = self._plain.encode(encodable(text), add_special_tokens=False).ids
        return [i for i in ids if i not in self._forbidden]

    def encode_marked(self, text: str, mark: str) -> list[int]:
        """Ids of rendered text in which `disarm` broke what users spelt: only unbroken spellings are control tokens."""
        ids: list[int] = []
        strip_left = False
        pieces = self._spelling.split(text)
        for index, piece in enumerate(pieces):
            if index % 2:
                ids.append(self.control_ids[piece])
                strip_left = self._takes_space[piece][1]
                continue
            strip_right = index + 1 < len(pieces) and self._takes_space[pieces[index + 1]][0]
            words = piece.lstrip() if strip_left else piece
            words = words.rstrip() if strip_right else words
            ids += self.encode_plain(words.replace(mark, ""))
        return ids

    def disarm(self, text: str, mark: str) -> str:
        """`text` with `mark` inside every control token that it spells, overlapping ones included."""
        return self._spelling_start.sub(lambda match: match.group(1) + mark, text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of `token_ids`, control tokens included, nothing cleaned up."""
        text: str = self._full.decode(list(token_ids), skip_special_tokens=False)
        return text


def encodable(text: str) -> str:
    """`text` with lone surrogates, which have no bytes in UTF-8, replaced by U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def mark_for(*texts: str) -> str:
    """A string that occurs in none of `texts`: a run of a private-use character longer than any of theirs."""
    longest = max((len(run) for text in texts for run in re.findall(f"{_MARK}+", text)), default=0)
    return _MARK * (longest + 1)


def _without_controls(spec: dict[str, Any], control_ids: dict[str, int]) -> dict[str, Any]:
    """The tokenizer without its control tokens: neither as added tokens nor as words of the vocabulary."""
    unknown = _unknown_id(spec)
    names = {word: f"\x00control {number}\x00" for word, number in control_ids.items() if number != unknown}
    model = dict(spec["model"])
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(word, word): number for word, number in vocab.items()}
    else:
        model["vocab"] = [[names.get(word, word), score] for word, score in vocab]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if _merged(merge) not in names]
    kept = [token for token in spec["added_tokens"] if token["content"] not in control_ids]
    return {**spec, "model": model, "added_tokens": kept}


def _merged(merge: str | list[str]) -> str:
    return merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge)


def _unknown_id(spec: dict[str, Any]) -> int | None:
    """The id that the model gives to what it has no word for, if it has one."""
    model = spec["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    word = model.get("unk_token")
    vocab = model["vocab"]
    return vocab.get(word) if isinstance(vocab, dict) and word is not None else None
