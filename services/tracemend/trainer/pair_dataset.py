"""Reading the pairs of an exported preference dataset, as training on pairs does."""

from __future__ import annotations

from pathlib import Path

from tracemend.records import Pair
from tracemend.trainer.dataset import read_records
from tracemend.trainer.pair_table import PAIRS, ServedPair


def read_pairs(folder: Path) -> list[Pair]:
    """The preference rows of an exported dataset, in order, checked against its manifest.

    Raises:
        SetupError: The folder is no dataset of pairs, or its rows are not the manifest's.
    """
    return [served.pair for served in read_served_pairs(folder)]


def read_served_pairs(folder: Path) -> list[ServedPair]:
    """`read_pairs`, each with its prompt as the model was served it."""
    return read_records(folder, PAIRS)
