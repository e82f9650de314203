"""How pairs lie in a batch: each side whole, or both behind one copy of what they share.

`preference` collates with it. A batch says for every position which token is read there, at which position of its text,
what it may attend to, which token it predicts and which sum that prediction's log-probability counts in, so the loss
need not know the layout. Of each text the last token is left out: nothing is predicted from it.

Shared layout: prompt and prefix stand once, two branches follow, and neither branch sees the other. The last shared
token predicts the first token of both branches, so each branch begins with its own copy of it, at the same position of
the text: a batch is shorter by the shared tokens but one, and every prediction is the one of the plain layout.
Several pairs lie in one row as far as they fit into the longest pair's; rows never get longer by it.

Shapes: R rows, T positions, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from tracemend.kit.errors import SetupError
from tracemend.trainer.pair_rows import PairRow

NOBODY = -1
"""Owner of a prediction that counts nowhere."""
IGNORED_LABEL = -100
Layout: TypeAlias = Literal["plain", "shared"]

_ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Model types whose shared layout is tested to be equal to the plain one."""
_WORTHWHILE = 1.1
"""`auto` shares prefixes where the plain layout has at least so many times the positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """Positions of one row that are laid out together; all fields have one entry per position."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    """Position in the text, which a branch takes up where its text left off."""
    branches: tuple[int, ...]
    """0 for what both sides share (or for the only side), 1 and 2 for the sides behind it."""
    labels: tuple[int, ...]
    sides: tuple[int, ...]
    """Whose preference span the predicted token is in: 2 · pair for chosen, 2 · pair + 1 for rejected, or `NOBODY`."""
    likelihoods: tuple[int, ...]
    """The pair whose likelihood term the predicted token counts in, or `NOBODY`."""

    def __len__(self) -> int:
        return len(self.tokens)


def strands_of(row: PairRow, pair: int, layout: Layout) -> list[Strand]:
    """How the pair with index `pair` of the batch is laid out: two strands, chosen first, or one."""
    sides = (_side(row, pair, is_chosen=True), _side(row, pair, is_chosen=False))
    if layout == "plain":
        return list(sides)
    num_shared = len(row.prompt_ids) + row.prefix - 1
    trunk, *branches = (_cut(sides[0], 0, num_shared), *(_cut(side, num_shared, len(side)) for side in sides))
    for number, branch in enumerate(branches, start=1):
        trunk = _joined(trunk, replace(branch, branches=(number,) * len(branch)))
    return [trunk]


def num_positions(row: PairRow, layout: Layout) -> int:
    """Positions that the pair takes without padding."""
    prompt = len(row.prompt_ids)
    chosen, rejected = prompt + _reads(row, is_chosen=True) - 1, prompt + _reads(row, is_chosen=False) - 1
    return chosen + rejected - (prompt + row.prefix - 1 if layout == "shared" else 0)


def collate(rows: Sequence[PairRow], *, layout: Layout, pad: int, mask_as_float: bool = False) -> dict[str, Any]:
    """A batch of tensors: `input_ids`, `position_ids`, `shift_labels`, `sides`, `likelihoods`, all (R, T), and
    `attention_mask`, (R, T) in the plain layout and (R, 1, T, T) in the shared one.

    Args:
        rows: The batch's pairs.
        layout: How they lie.
        pad: The token id that padding reads.
        mask_as_float: The shared layout's mask as numbers to add to the scores, which `eager` attention wants, and not
            as what may be seen, which `sdpa` wants.
    """
    import torch

    lines = _lines([strand for pair, row in enumerate(rows) for strand in strands_of(row, pair, layout)], layout)
    width = max(sum(map(len, line)) for line in lines)

    def grid(field: str, filling: int) -> Any:
        values = [[value for strand in line for value in getattr(strand, field)] for line in lines]
        return torch.tensor([line + [filling] * (width - len(line)) for line in values])

    groups = [[number for number, strand in enumerate(line) for _ in range(len(strand))] for line in lines]
    group = torch.tensor([line + [NOBODY] * (width - len(line)) for line in groups])
    mask = (group != NOBODY).long() if layout == "plain" else _mask(group, grid("branches", 0), mask_as_float)
    return {
        "input_ids": grid("tokens", pad),
        "attention_mask": mask,
        "position_ids": grid("places", 0),
        "shift_labels": grid("labels", IGNORED_LABEL),
        "sides": grid("sides", NOBODY),
        "likelihoods": grid("likelihoods", NOBODY),
    }


def chosen_layout(setting: str, rows: Sequence[PairRow], model: Any) -> Layout:
    """The layout that `shared_prefix: auto|on|off` stands for, given the rows and the model's architecture.

    Raises:
        SetupError: `on`, and the model takes no mask of its own.
    """
    trouble = _no_sharing(model)
    if setting == "on" and trouble:
        raise SetupError(f"shared_prefix: on is not possible: {trouble}; set shared_prefix: auto")
    if setting == "off" or trouble:
        return "plain"
    ratio = sum(num_positions(row, "plain") for row in rows) / sum(num_positions(row, "shared") for row in rows)
    return "shared" if setting == "on" or ratio >= _WORTHWHILE else "plain"


def _no_sharing(model: Any) -> str:
    """Why a model's attention cannot be told who sees whom; empty where it can."""
    config = model.config.get_text_config()
    if config.model_type not in _ARCHITECTURES:
        return f"models of type {config.model_type} are not known to take a mask per position"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return "the model's attention slides over a window"
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return f"attention '{model.config._attn_implementation}' takes no mask per position"
    return ""


class Collator:
    """Row numbers to a batch, the reference's numbers included once they are known."""

    def __init__(self, rows: Sequence[PairRow], *, layout: Layout, pad: int, mask_as_float: bool) -> None:
        self.layout: Layout = layout
        self.reference: Sequence[tuple[float, float]] = ()
        self._rows = rows
        self._pad = pad
        self._mask_as_float = mask_as_float

    def __call__(self, chosen: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        import torch

        numbers = [item["row"] for item in chosen]
        rows = [self._rows[number] for number in numbers]
        batch = collate(rows, layout=self.layout, pad=self._pad, mask_as_float=self._mask_as_float)
        known = [self.reference[number] for number in numbers] if self.reference else [(0.0, 0.0)] * len(rows)
        return {**batch, "reference": torch.tensor(known, dtype=torch.float32)}

    def num_positions(self, number: int) -> int:
        """Positions that a pair takes."""
        return num_positions(self._rows[number], self.layout)


def _side(row: PairRow, pair: int, *, is_chosen: bool) -> Strand:
    """One side as it is read and predicted; a prediction that counts nowhere has no label."""
    response = row.chosen_ids if is_chosen else row.rejected_ids
    end = row.chosen_end if is_chosen else row.rejected_end
    num_prompt = len(row.prompt_ids)
    ids = row.prompt_ids + response[: _reads(row, is_chosen=is_chosen)]
    at = range(1 - num_prompt, len(ids) - num_prompt)  # the response token that each position predicts
    sides = tuple(2 * pair + (not is_chosen) if row.prefix <= token < end else NOBODY for token in at)
    likelihoods = tuple(pair if is_chosen and row.nll_start <= t < row.nll_end else NOBODY for t in at)
    counts = [side != NOBODY or likelihood != NOBODY for side, likelihood in zip(sides, likelihoods, strict=True)]
    return Strand(
        tokens=ids[:-1],
        places=tuple(range(len(ids) - 1)),
        branches=(0,) * (len(ids) - 1),
        labels=tuple(token if is_in else IGNORED_LABEL for token, is_in in zip(ids[1:], counts, strict=True)),
        sides=sides,
        likelihoods=likelihoods,
    )


def _reads(row: PairRow, *, is_chosen: bool) -> int:
    """Response tokens that are laid out: none behind the last one that counts."""
    return max(row.chosen_end, row.nll_end) if is_chosen else row.rejected_end


def _cut(strand: Strand, start: int, end: int) -> Strand:
    return Strand(**{name: getattr(strand, name)[start:end] for name in Strand.__slots__})


def _joined(one: Strand, other: Strand) -> Strand:
    return Strand(**{name: getattr(one, name) + getattr(other, name) for name in Strand.__slots__})


def _lines(strands: Sequence[Strand], layout: Layout) -> list[list[Strand]]:
    """The strands of each row: one in the plain layout, else as many as fit into the longest strand's length."""
    if layout == "plain":
        return [[strand] for strand in strands]
    width = max(map(len, strands))
    lines: list[list[Strand]] = []
    for strand in sorted(strands, key=len, reverse=True):
        line = next((line for line in lines if sum(map(len, line)) + len(strand) <= width), None)
        if line is None:
            lines.append([strand])
        else:
            line.append(strand)
    return lines


def _mask(group: Any, branch: Any, mask_as_float: bool) -> Any:
    """Who sees whom: earlier positions of the same strand that are shared or of the same branch."""
    import torch

    width = group.shape[1]
    same_strand = group[:, :, None] == group[:, None, :]
    same_branch = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    sees = (same_strand & same_branch & torch.ones(width, width, dtype=torch.bool).tril())[:, None]
    if not mask_as_float:
        return sees
    return torch.zeros(sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)
