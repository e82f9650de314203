"""Drawing the next tokens of a batch: each row by its own settings and its own random numbers.

Called by the transformers engine. A draw depends on the row's logits, seed and absolute position alone, never on its
neighbours or on what was drawn before: the noise for (seed, position, token) is a hash of the three. Rows draw by
exponential races (the token that minimises E/p, E exponential), so logits that differ by float noise, as batches of
other shapes give, change a draw only where two tokens come within that noise of each other.

Shapes: R rows, V vocabulary.
"""

# ruff: noqa: N803, N806 - tensor names end in their shape

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracemend.records import Sampling

if TYPE_CHECKING:
    import torch

_MASK_32 = 0xFFFFFFFF
_GREEDY_BELOW = 1e-5
"""Temperatures that fp32 cannot divide logits by draw the most likely token, as they would without rounding."""


class Sampler:
    """The settings of R rows as tensors; rebuilt when rows join or leave."""

    def __init__(
        self,
        samplings: Sequence[Sampling],
        seeds: Sequence[int],
        sequences: Sequence[Sequence[int]],
        *,
        vocab: int,
        device: Any,
    ) -> None:
        """`sequences` are the rows' prompt and response ids so far, which a repetition penalty is about."""
        import torch

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        are_greedy = [s.temperature < _GREEDY_BELOW for s in samplings]
        self._greedy_R = torch.tensor(are_greedy, device=device)
        self._all_greedy, self._any_greedy = all(are_greedy), any(are_greedy)
        self._inverse_temperature_R1 = column([1 / max(s.temperature, _GREEDY_BELOW) for s in samplings])
        self._top_p_R1 = column([s.top_p for s in samplings]) if any(s.top_p < 1 for s in samplings) else None
        top_ks = [min(s.top_k, vocab) or vocab for s in samplings]
        self._top_k_R1 = torch.tensor(top_ks, device=device)[:, None] if min(top_ks, default=vocab) < vocab else None
        self._penalty_R1 = column([s.repetition_penalty for s in samplings]) if _penalised(samplings) else None
        self.seen_RV = _seen(sequences, vocab, device) if self._penalty_R1 is not None else torch.empty(0)
        self._seed_keys_R = _mix(_mix(_halves(seeds, device, 32)) ^ _halves(seeds, device, 0))
        self._token_keys_V = _mix(torch.arange(vocab, device=device) + 0x9E3779B9)

    def draw(self, logits_RV: torch.Tensor, positions_R: torch.Tensor) -> torch.Tensor:
        """The next token of each row, (R,); `positions_R` is where in its sequence it will stand."""
        logits_RV = logits_RV.float()
        if self._penalty_R1 is not None:
            logits_RV = _penalise(logits_RV, self._penalty_R1, self.seen_RV)
        drawn_R = logits_RV.argmax(dim=-1) if self._any_greedy else None
        if not self._all_greedy:
            scaled_RV = logits_RV * self._inverse_temperature_R1
            raced_R = (self._filter(scaled_RV).softmax(dim=-1) / self._exponentials(positions_R)).argmax(dim=-1)
            drawn_R = raced_R if drawn_R is None else drawn_R.where(self._greedy_R, raced_R)
        assert drawn_R is not None
        if self._penalty_R1 is not None:
            self.seen_RV.scatter_(1, drawn_R[:, None], True)
        return drawn_R

    def _filter(self, scaled_RV: torch.Tensor) -> torch.Tensor:
        """Top-k, then top-p, as transformers' logits warpers define them."""
        if self._top_k_R1 is None and self._top_p_R1 is None:
            return scaled_RV
        descending_RV, order_RV = scaled_RV.sort(dim=-1, descending=True)
        if self._top_k_R1 is not None:
            least_R1 = descending_RV.gather(1, self._top_k_R1 - 1)
            descending_RV = descending_RV.masked_fill(descending_RV < least_R1, float("-inf"))
        if self._top_p_R1 is not None:
            share_RV = descending_RV.softmax(dim=-1)
            before_RV = share_RV.cumsum(dim=-1) - share_RV
            cut_RV = before_RV >= self._top_p_R1
            cut_RV[:, 0] = False
            descending_RV = descending_RV.masked_fill(cut_RV, float("-inf"))
        return descending_RV.new_empty(descending_RV.shape).scatter_(1, order_RV, descending_RV)

    def _exponentials(self, positions_R: torch.Tensor) -> torch.Tensor:
        """Exponential noise by (seed, position, token), (R, V): 23 bits each, never zero."""
        keys_R = _mix(self._seed_keys_R ^ _mix(positions_R & _MASK_32))
        bits_RV = _mix(keys_R[:, None] ^ self._token_keys_V) >> 9
        return bits_RV.float().add_(0.5).mul_(-(2.0**-23)).log1p_().neg_()


def _penalised(samplings: Sequence[Sampling]) -> bool:
    return any(s.repetition_penalty != 1 for s in samplings)


def _seen(sequences: Sequence[Sequence[int]], vocab: int, device: Any) -> torch.Tensor:
    """Which tokens each row holds so far, (R, V) of bool."""
    import torch

    seen_RV = torch.zeros(len(sequences), vocab, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        seen_RV[row, torch.tensor(sequence, dtype=torch.int64)] = True
    return seen_RV.to(device)


def _penalise(logits_RV: torch.Tensor, penalty_R1: torch.Tensor, seen_RV: torch.Tensor) -> torch.Tensor:
    """Repetition penalty as transformers defines it (CTRL, Keskar et al. 2019, section 4.1)."""
    penalised_RV = (logits_RV / penalty_R1).where(logits_RV > 0, logits_RV * penalty_R1)
    return penalised_RV.where(seen_RV, logits_RV)


def _halves(seeds: Sequence[int], device: Any, shift: int) -> torch.Tensor:
    import torch

    return torch.tensor([(seed >> shift) & _MASK_32 for seed in seeds], dtype=torch.int64, device=device)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """A 32-bit integer hash (xorshift-multiply finaliser), held in int64; both factors stay below 2^31, so no
    product overflows."""
    x = x & _MASK_32
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & _MASK_32
    x = ((x ^ (x >> 15)) * 0x735A2D97) & _MASK_32
    return x ^ (x >> 15)
