"""The thread behind the transformers engine: takes requests in, keeps a batch full, hands completions out.

Called by the transformers engine alone. Everything about the model, its tokenizer included, happens in this thread;
the event loop sees only futures. However the thread ends, no future stays open.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from tracemend.adapters.engine_thread import Inbox, Item
from tracemend.adapters.kept_rows import KeptRows
from tracemend.adapters.token_requests import completion_of, prepare, stops_in_tail
from tracemend.adapters.tokens import Tokens
from tracemend.adapters.transformers_batch import Batch, Row
from tracemend.kit.errors import Reject, Retry
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.records import Finish

_LEAVE_SHARE = 8  # finished rows leave once they are an eighth of the batch: leaving copies the cache
_ENTER_SHARE = 4  # waiting rows enter once a quarter of the batch is free: entering stalls the others
_GROWTH = 32  # columns that an entering row must find room for beyond its prompt


@dataclass(slots=True, eq=False)
class _Waiting:
    """An item in line; `row` is there once it has been looked at, with what was written if it was sent back."""

    item: Item
    row: Row | None = None


class Worker:
    """Owns model, tokenizer and batch."""

    def __init__(
        self, model: Any, tokens: Tokens, inbox: Inbox, *, max_batch: int, max_tokens: int,
        max_model_len: int, kept_bytes: int,
    ) -> None:  # fmt: skip
        self._tokens = tokens
        self._inbox = inbox
        self._max_batch = max_batch
        self._max_tokens = max_tokens
        self._max_model_len = max_model_len
        self._batch = Batch(model, pad_id=tokens.pad_id, max_model_len=max_model_len, kept=KeptRows(kept_bytes))
        self._vocab = int(model.get_input_embeddings().weight.shape[0])
        self._waiting: deque[_Waiting] = deque()
        self._written: dict[int, Item] = {}
        """Items in the batch by the identity of their rows."""

    def run(self) -> None:
        """Work until the inbox stops; what is unfinished then, or if anything breaks, ends with `Retry`."""
        try:
            while self._take_in():
                self._settle()
                self._enter()
                if self._written:
                    self._make_room()
                    self._batch.step()
        finally:
            self._abandon()

    def _take_in(self) -> bool:
        """Move what has arrived to the waiting line; blocks while there is nothing to do. False to stop."""
        arrived = self._inbox.take(block=not (self._waiting or self._batch.rows))
        self._waiting.extend(map(_Waiting, arrived or ()))
        return arrived is not None

    def _settle(self) -> None:
        """Finish rows that ended with their last token, let go of cancelled ones, drop both when it is worth it."""
        rows = self._batch.rows
        for row in rows:
            if row.finish is None:
                self._judge(row, self._written[id(row)])
        gone = [row for row in rows if row.finish is not None]
        if gone and (len(gone) * _LEAVE_SHARE >= len(rows) or self._is_entry_due(len(rows) - len(gone))):
            self._batch.drop(gone)

    def _judge(self, row: Row, item: Item) -> None:
        if row.written[-1] in self._tokens.end_ids or stops_in_tail(self._tokens, row.written, item.request.stop):
            row.finish = Finish.STOP
        elif len(row.written) >= row.max_new_tokens:
            row.finish = Finish.LENGTH
        elif item.future.cancelled():
            row.finish = Finish.DEAD
        else:
            return
        item.finish(self._completion(row, item.request))
        del self._written[id(row)]

    def _completion(self, row: Row, request: ModelRequest) -> Completion:
        assert row.finish is not None
        return completion_of(
            request, self._tokens, written=row.written, finish=row.finish, num_prompt_tokens=len(row.prompt),
            num_cached_tokens=row.num_cached, logprobs=row.logprobs, seconds=row.seconds,
        )  # fmt: skip

    # entering and making room -----------------------------------------------------------------------

    def _is_entry_due(self, num_going: int) -> bool:
        return bool(self._waiting) and (
            num_going == 0 or (self._max_batch - num_going) * _ENTER_SHARE >= self._max_batch
        )

    def _enter(self) -> None:
        """Let waiting requests into the batch, as far as rows and memory go."""
        if not self._is_entry_due(len(self._batch.rows)):
            return
        entering: list[Row] = []
        width = self._batch.width
        while self._waiting and len(self._batch.rows) + len(entering) < self._max_batch:
            row = self._row_of(self._waiting[0])
            if row is not None:
                width = max(width, row.num_tokens)
                num_rows = len(self._batch.rows) + len(entering) + 1
                if num_rows > 1 and num_rows * (width + _GROWTH) > self._max_tokens:
                    break
                self._written[id(row)] = self._waiting[0].item
                entering.append(row)
            self._waiting.popleft()
        self._batch.join(entering)
        for row in entering:  # one token was drawn on entry, and it may have been the last
            self._judge(row, self._written[id(row)])

    def _row_of(self, waiting: _Waiting) -> Row | None:
        """The item's row, made on first sight; None where the request was refused or is no longer wanted."""
        item = waiting.item
        if item.future.cancelled():
            return None
        if waiting.row is None:
            try:
                waiting.row = self._new_row(item.request)
            except (Reject, ValueError, TypeError, LookupError) as error:  # its caller's, and none of the others'
                item.fail(error)
        return waiting.row

    def _new_row(self, request: ModelRequest) -> Row:
        fitted = prepare(request, self._tokens, max_model_len=self._max_model_len, vocab=self._vocab)
        return Row(
            prompt=fitted.prompt, sampling=request.sampling, seed=request.seed, max_new_tokens=fitted.max_new_tokens,
            wants_logprobs=request.num_logprobs > 0,
        )  # fmt: skip

    def _make_room(self) -> None:
        """Send the shortest rows back to the line while the next step would not fit; they go on from their tokens."""
        rows = self._batch.rows
        num_fitting = max(1, self._max_tokens // (self._batch.width + 1))
        if len(rows) <= num_fitting:
            return
        going = sorted((row for row in rows if row.finish is None), key=lambda row: row.num_tokens)
        kept = set(map(id, going[-num_fitting:]))
        back = [row for row in going if id(row) not in kept]
        self._batch.drop([row for row in rows if id(row) not in kept])
        self._waiting.extendleft(_Waiting(self._written.pop(id(row)), row) for row in back)

    def _abandon(self) -> None:
        for item in (*self._written.values(), *(waiting.item for waiting in self._waiting)):
            item.fail(Retry("engine_closed"))
