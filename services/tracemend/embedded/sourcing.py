"""Reading the prompt sets that a run file names, with what it leaves to the environment filled in.

Intake, measuring, the dry run and the estimate read through here. As with models, `${NAME}` in a set's place is filled
in at the moment of reading, so the stored plan keeps names and not places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracemend.embedded.environment import filled
from tracemend.ingestion import service
from tracemend.ingestion.rows import BadRow, Row
from tracemend.ingestion.settings import PromptsSettings

_PLACES = ("path", "data")
"""Options that say where files lie: of the file sources, and of presets."""


def read(items: Sequence[PromptsSettings], *, first: int | None = None) -> Iterator[Row | BadRow]:
    """The rows of `items` in order, of each source the `first` N rows; a `SetupError` for an unset variable."""
    return service.read([_placed(item) for item in items], first=first)


def _placed(item: PromptsSettings) -> PromptsSettings:
    places = {name: _filled(item.options[name], name) for name in _PLACES if name in item.options}
    return PromptsSettings.model_validate(item.model_dump() | places) if places else item


def _filled(place: object, name: str) -> object:
    where = f"prompts: {name}"
    if isinstance(place, str):
        return filled(place, where=where)
    return [filled(str(each), where=where) for each in place] if isinstance(place, (list, tuple)) else place
