"""Reference log-probabilities in the run's folder: computed once for a model and a set of pairs, then read.

`preference` keeps them here. Candidates of a sweep and a training that was killed find them by a digest of everything
that they are a function of; a file that is damaged or belongs to something else is not used and is written anew.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracemend.kit.ids import digest_of
from tracemend.trainer.checkpoints import sync_folder
from tracemend.trainer.pair_rows import PairRow

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFile:
    """One file of sums, chosen and rejected of each pair, in the pairs' order."""

    path: Path
    key: str
    num_pairs: int

    @classmethod
    def of(cls, rows: Sequence[PairRow], *, folder: Path, causes: Iterable[object]) -> ReferenceFile:
        """The file for `rows` in `folder`; `causes` are what else the numbers depend on: model, template, layout."""
        spans = [
            (r.pair.id, r.prompt_ids, r.chosen_ids, r.rejected_ids, r.prefix, r.chosen_end, r.rejected_end)
            for r in rows
        ]
        key = digest_of([list(causes), spans])
        return cls(path=folder / f"reference-{key[:24]}.json", key=key, num_pairs=len(rows))

    def read(self) -> list[tuple[float, float]] | None:
        """The sums, or None where there is no sound file."""
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            sums = [(float(chosen), float(rejected)) for chosen, rejected in kept["sums"]]
            sound = kept["key"] == self.key and kept["digest"] == digest_of(sums) and len(sums) == self.num_pairs
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            _log.warning("%s is damaged and is computed again", self.path)
            return None
        return sums

    def write(self, sums: Sequence[tuple[float, float]]) -> None:
        """Keep `sums`, whole or not at all."""
        assert len(sums) == self.num_pairs, "a sum is missing"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump({"key": self.key, "digest": digest_of(list(sums)), "sums": list(sums)}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.path)
        sync_folder(self.path.parent)
