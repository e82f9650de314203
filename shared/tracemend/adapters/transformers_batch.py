"""A batch of responses being written by a transformers model: rows join, are stepped together, and leave.

Called by the transformers engine, in its thread. What a joining row shares with one that was written lately, or with
another that joins beside it, is not read again. Every row's tokens are a function of its own prompt, sampling and
seed up to float noise: rows are right-aligned with hidden padding on the left, positions count each row's own tokens,
and draws use each row's own random numbers (`sampling`).

Shapes: R rows, W live columns, Q columns of one forward, V vocabulary.
"""

# ruff: noqa: N803, N806, N815 - tensor names end in their shape

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracemend.adapters.kept_rows import KeptRows, States
from tracemend.adapters.kv_rows import KeyValueRows
from tracemend.adapters.sampling import Sampler
from tracemend.records import Finish, Sampling

if TYPE_CHECKING:
    import torch

_MASK_ROOM = 256  # columns that a mask is built ahead for
_READ_TOKENS = 8192  # tokens, padding included, that one forward reads
_PADDING_TOKENS = 32  # that a row may get in a forward, beside as many as it has itself


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One response being written."""

    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int
    max_new_tokens: int
    wants_logprobs: bool = False
    written: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    seconds: float = 0.0
    finish: Finish | None = None
    """Set by the engine; the row is then dropped at the next occasion."""
    num_cached: int = 0
    """Prompt tokens that were not read for this row alone."""
    num_idle: int = 0
    """Steps that the row has stood in the batch since it ended."""

    @property
    def num_tokens(self) -> int:
        """Prompt and response so far."""
        return len(self.prompt) + len(self.written)


@dataclass(frozen=True, slots=True)
class _Unread:
    """A sequence that one or more joining rows begin with, and what is known of it."""

    sequence: tuple[int, ...]
    num_known: int
    states: States
    rows: list[Row]

    @property
    def num_tokens(self) -> int:
        """Tokens to read: one at least, whose logits are wanted."""
        return len(self.sequence) - self.num_known

    def note_cached(self, num_tokens: int) -> None:
        """The first of the rows took `num_tokens` from what was kept; the others take all from the first."""
        for i, row in enumerate(self.rows):
            if not row.written:
                row.num_cached = len(row.prompt) if i else num_tokens


class Batch:
    """The rows that are being written, with their cache."""

    _last_R: torch.Tensor
    """Last token of each row, not yet in the cache; like the next two rebuilt whenever rows come or go."""
    _positions_R: torch.Tensor
    """Where in its own sequence each row's last token stands."""
    _sampler: Sampler

    def __init__(self, model: Any, *, pad_id: int, max_model_len: int, kept: KeptRows) -> None:
        self.rows: list[Row] = []
        self._kept = kept
        self._model = model
        self._pad_id = pad_id
        self._last_position = max_model_len - 1
        self._vocab = int(model.get_output_embeddings().weight.shape[0])
        self._takes_own_mask = full_attention_only(model.config)
        self._cache: KeyValueRows | None = None

    @property
    def width(self) -> int:
        """Columns of the cache, which every row occupies."""
        return self._cache.width if self._cache is not None else 0

    def join(self, rows: Sequence[Row]) -> None:
        """Read the rows' prompts (and responses so far), draw a token for each, and add them to the batch."""
        by_sequence: dict[tuple[int, ...], list[Row]] = {}  # samples of one prompt share the work of reading it
        for row in rows:
            by_sequence.setdefault((*row.prompt, *row.written), []).append(row)
        unread = [_Unread(sequence, *self._kept.longest(sequence[:-1]), rows) for sequence, rows in by_sequence.items()]
        for group in _groups(unread):
            self._join(group)

    def _join(self, group: Sequence[_Unread]) -> None:
        import torch

        started = time.perf_counter()
        rows = [row for unread in group for row in unread.rows]
        cache = KeyValueRows(self._model.config.num_hidden_layers)
        with torch.inference_mode():
            logits_RV = self._read(group, cache)
            if len(group) < len(rows):
                chosen_R = self._tensor([i for i, unread in enumerate(group) for _ in unread.rows])
                cache.select(chosen_R)
                logits_RV = logits_RV[chosen_R]
            self._draw(rows, self._sampler_of(rows), logits_RV, self._tensor([row.num_tokens - 1 for row in rows]))
            if self._cache is None:
                self._cache = cache
            else:
                self._cache.join(cache)
            self.rows.extend(rows)
            self._align()
        _share(time.perf_counter() - started, rows, by=[unread.num_tokens for unread in group for _ in unread.rows])

    def step(self) -> None:
        """Draw one more token for every row."""
        import torch

        started = time.perf_counter()
        assert self._cache is not None
        going = [row for row in self.rows if row.finish is None]
        with torch.inference_mode():
            ids_RQ, positions_RQ = self._last_R[:, None], self._positions_R[:, None]
            logits_RV = self._forward(ids_RQ, positions_RQ, self._step_mask(), self._cache)
            self._last_R = self._draw(self.rows, self._sampler, logits_RV, self._positions_R)
            self._positions_R = (self._positions_R + 1).clamp_(max=self._last_position)
        _share(time.perf_counter() - started, going, by=[1] * len(going))

    def drop(self, gone: Sequence[Row]) -> None:
        """Take rows out, and with them the columns that none of the others uses."""
        import torch

        self._keep(gone)
        leaving = set(map(id, gone))
        kept = [i for i, row in enumerate(self.rows) if id(row) not in leaving]
        self.rows = [self.rows[i] for i in kept]
        if not self.rows:
            self._cache = None
            return
        assert self._cache is not None
        with torch.inference_mode():
            self._cache.select(self._tensor(kept), trim=self.width - max(row.num_tokens - 1 for row in self.rows))
            self._align()

    # parts ------------------------------------------------------------------------------------------

    def _keep(self, gone: Sequence[Row]) -> None:
        """Keep what the finished ones among the leaving rows have in the cache, for what will begin as they did."""
        assert self._cache is not None
        ended = {id(row) for row in gone if row.finish in (Finish.STOP, Finish.LENGTH)}
        for i, row in enumerate(self.rows):
            num_tokens = row.num_tokens - 1  # the last one drawn has not been read
            if id(row) in ended and self._kept.takes(num_tokens * self._cache.token_bytes):
                states = self._cache.states_of(i, num_tokens=num_tokens, before_end=row.num_idle)
                self._kept.keep((*row.prompt, *row.written[:-1]), states)

    def _read(self, group: Sequence[_Unread], cache: KeyValueRows) -> torch.Tensor:
        """Forward over what is unread of the sequences; the logits of their last tokens, (R, V).

        Every row reads as many tokens as the one that has most to read, known ones again if need be: so no row has a
        gap between what it knew and what it reads.
        """
        import torch

        num_read = max(unread.num_tokens for unread in group)
        past = [max(0, len(unread.sequence) - num_read) for unread in group]
        cache.begin([(num, unread.states) for num, unread in zip(past, group, strict=True)])
        for num, unread in zip(past, group, strict=True):
            unread.note_cached(num)
        ids = [unread.sequence[num:] for num, unread in zip(past, group, strict=True)]
        ids_RQ = self._tensor([[self._pad_id] * (num_read - len(each)) + list(each) for each in ids])
        width = cache.width + num_read
        padding_R1 = self._tensor([width - len(unread.sequence) for unread in group])[:, None]
        columns_W = torch.arange(width, device=self._model.device)
        real_RW = columns_W >= padding_R1
        columns_Q = columns_W[cache.width :]
        mask = self._read_mask(real_RW, columns_Q, columns_W) if self._takes_own_mask else real_RW
        return self._forward(ids_RQ, (columns_Q - padding_R1).clamp(min=0), mask, cache)

    def _forward(self, ids_RQ: Any, positions_RQ: Any, mask: Any, cache: KeyValueRows) -> torch.Tensor:
        """Logits of the last column, (R, V)."""
        output = self._model(
            input_ids=ids_RQ, position_ids=positions_RQ, attention_mask=mask, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        cache.advance(ids_RQ.shape[1])
        logits_RV: torch.Tensor = output.logits[:, -1]
        return logits_RV

    def _draw(self, rows: Sequence[Row], sampler: Sampler, logits_RV: Any, positions_R: Any) -> torch.Tensor:
        """Draw and note a token for each row; `positions_R` are those of the rows' present last tokens."""
        drawn_R = sampler.draw(logits_RV, positions_R + 1)
        for row, token in zip(rows, drawn_R.tolist(), strict=True):
            if row.finish is None:
                row.written.append(token)
            else:
                row.num_idle += 1
        if any(row.wants_logprobs for row in rows):
            logprobs_R = logits_RV.float().log_softmax(dim=-1).gather(1, drawn_R[:, None])[:, 0]
            for row, logprob in zip(rows, logprobs_R.tolist(), strict=True):
                if row.finish is None and row.wants_logprobs:
                    row.logprobs.append(logprob)
        return drawn_R

    def _align(self) -> None:
        """Rebuild what goes with the rows: last tokens, positions, sampler and the padding of each."""
        self._last_R = self._tensor([row.written[-1] for row in self.rows])
        self._positions_R = self._tensor([row.num_tokens - 1 for row in self.rows])
        self._sampler = self._sampler_of(self.rows)
        self._padding = [self.width - row.num_tokens + 1 for row in self.rows]
        self._hidden_RW: torch.Tensor | None = None

    def _sampler_of(self, rows: Sequence[Row]) -> Sampler:
        return Sampler(
            [row.sampling for row in rows], [row.seed for row in rows], [(*row.prompt, *row.written) for row in rows],
            vocab=self._vocab, device=self._model.device,
        )  # fmt: skip

    def _read_mask(self, real_RW: torch.Tensor, columns_Q: torch.Tensor, columns_W: torch.Tensor) -> torch.Tensor:
        """Causal mask without padding, (R, 1, Q, W); padding sees itself, or its softmax would be over nothing."""
        causal_QW = columns_W[None, :] <= columns_Q[:, None]
        seen_RQW = (causal_QW & real_RW[:, None, :]) | (columns_W[None, :] == columns_Q[:, None])
        return self._additive(seen_RQW)[:, None]

    def _step_mask(self) -> torch.Tensor | None:
        """Mask of one step: additive (R, 1, 1, W), or (R, W) of bool where the model makes its own. Columns to come
        are seen by every row, so one mask serves many steps."""
        import torch

        width = self.width + 1
        if not any(self._padding) and self._takes_own_mask:
            return None
        if self._hidden_RW is None or self._hidden_RW.shape[1] < width:
            columns_W = torch.arange(width + _MASK_ROOM, device=self._model.device)
            real_RW = columns_W >= self._tensor(self._padding)[:, None]
            self._hidden_RW = self._additive(real_RW) if self._takes_own_mask else real_RW
        mask = self._hidden_RW[:, :width]
        return mask[:, None, None] if self._takes_own_mask else mask

    def _additive(self, seen: torch.Tensor) -> torch.Tensor:
        import torch

        dtype = self._model.dtype
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)

    def _tensor(self, values: Sequence[Any]) -> torch.Tensor:
        import torch

        return torch.tensor(values, dtype=torch.int64, device=self._model.device)


def full_attention_only(config: Any) -> bool:
    """Whether every layer sees all columns, so that one mask of ours fits all of them."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    slides = getattr(config, "sliding_window", None) and getattr(config, "layer_types", None) is None
    return kinds == {"full_attention"} and not slides and not getattr(config, "attention_chunk_size", None)


def _groups(unread: Sequence[_Unread]) -> list[list[_Unread]]:
    """Sequences that one forward reads: not too many tokens together, and of like length, the longest first."""
    groups: list[list[_Unread]] = []
    for each in sorted(unread, key=lambda each: -each.num_tokens):
        longest = groups[-1][0].num_tokens if groups else 0
        fits = (len(groups[-1]) + 1) * longest <= _READ_TOKENS if groups else False
        if fits and longest <= 2 * each.num_tokens + _PADDING_TOKENS:
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def _share(seconds: float, rows: Sequence[Row], *, by: Sequence[int]) -> None:
    """Account engine time to rows in proportion, so that over all rows it adds up."""
    for row, weight in zip(rows, by, strict=True):
        row.seconds += seconds * weight / sum(by)
