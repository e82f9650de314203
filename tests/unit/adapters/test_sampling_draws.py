"""Drawing tokens: the distributions are transformers' own, the noise depends on nothing but seed, place and token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tracemend.adapters.sampling import Sampler
from tracemend.records import Sampling

VOCAB = 50
PLAIN = Sampling(temperature=1.0, top_p=1.0)


def logits(num_rows: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def sampler(*samplings: Sampling, seeds: list[int] | None = None, sequences: Any = None) -> Sampler:
    count = len(samplings)
    return Sampler(
        samplings, seeds or list(range(count)), sequences or [()] * count, vocab=VOCAB, device=torch.device("cpu")
    )


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7, top_p=1.0),
        Sampling(temperature=1.0, top_p=0.8),
        Sampling(temperature=1.3, top_p=1.0, top_k=7),
        Sampling(temperature=0.9, top_p=0.7, top_k=20, repetition_penalty=1.4),
    ],
    ids=["temperature", "top_p", "top_k", "all"],
)
def test_draws_follow_the_distribution_of_transformers_warpers(sampling: Sampling) -> None:
    sequence, one = (3, 4, 5), logits()
    wanted = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(torch.tensor([sequence]), one.clone())
    for warper in (
        TemperatureLogitsWarper(sampling.temperature),
        TopKLogitsWarper(sampling.top_k or VOCAB),
        TopPLogitsWarper(sampling.top_p),
    ):
        wanted = warper(torch.tensor([sequence]), wanted)
    num_draws = 20_000
    drawn = sampler(*[sampling] * num_draws, sequences=[sequence] * num_draws).draw(
        one.expand(num_draws, VOCAB), torch.full((num_draws,), 9)
    )
    seen = torch.bincount(drawn, minlength=VOCAB) / num_draws
    expected = wanted.softmax(-1)[0]
    assert not seen[expected == 0].any()
    # Four standard errors of a share of 20,000 draws.
    assert (seen - expected).abs().max() < 4 * (0.25 / num_draws) ** 0.5


@pytest.mark.parametrize("temperature", [0.0, 1e-320, 1e-38, 1e-6])
def test_a_temperature_too_small_to_divide_by_draws_the_most_likely_token(temperature: float) -> None:
    many = logits(8)
    drawn = sampler(*[Sampling(temperature=temperature, top_p=0.9)] * 8).draw(many, torch.arange(8))
    assert drawn.equal(many.argmax(dim=-1))


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    many, positions = logits(8), torch.arange(8) + 5
    together = sampler(*[PLAIN] * 8).draw(many, positions)
    for row in range(8):
        alone = sampler(PLAIN, seeds=[row]).draw(many[row : row + 1], positions[row : row + 1])
        assert alone[0] == together[row]


def test_seed_position_and_token_each_change_the_noise() -> None:
    flat = torch.zeros(1000, VOCAB)
    by_seed = sampler(*[PLAIN] * 1000).draw(flat, torch.zeros(1000, dtype=torch.int64))
    by_place = sampler(*[PLAIN] * 1000, seeds=[1] * 1000).draw(flat, torch.arange(1000))
    for drawn in (by_seed, by_place):
        assert len(drawn.unique()) == VOCAB
        assert (drawn[1:] == drawn[:-1]).float().mean() < 0.05
    assert (by_seed == by_place).float().mean() < 0.05


def test_high_and_low_halves_of_a_seed_count() -> None:
    flat, place = torch.zeros(1, VOCAB), torch.tensor([3])
    seeds = [7, 7 + 2**33, 7 + 2**60, 2**63 - 1, -1]
    drawn = [int(sampler(PLAIN, seeds=[seed]).draw(flat, place)) for seed in seeds]
    assert len(set(drawn)) >= 4


def test_greedy_rows_and_drawn_rows_share_a_batch() -> None:
    two = logits(2)
    mixed = sampler(Sampling(temperature=0.0), Sampling(temperature=2.0, top_p=1.0))
    assert all(int(mixed.draw(two, torch.tensor([p, p]))[0]) == int(two[0].argmax()) for p in range(20))
    assert len({int(mixed.draw(two, torch.tensor([p, p]))[1]) for p in range(50)}) > 5


def test_a_repetition_penalty_learns_what_is_drawn() -> None:
    one = torch.zeros(1, VOCAB)
    one[0, 5], one[0, 6] = 2.0, 1.5
    greedy = sampler(Sampling(temperature=0.0, repetition_penalty=2.0))
    assert [int(greedy.draw(one, torch.tensor([p]))) for p in range(2)] == [5, 6]


def test_nothing_is_drawn_that_has_no_probability() -> None:
    one = torch.full((1, VOCAB), float("-inf"))
    one[0, 3] = 0.0
    assert all(int(sampler(PLAIN, seeds=[s]).draw(one, torch.tensor([s]))) == 3 for s in range(500))
