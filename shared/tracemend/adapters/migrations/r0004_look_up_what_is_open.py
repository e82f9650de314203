"""Schema 4: indexes for what is asked all the time: what is open, what is about a prompt, the newest runs.

From here on Alembic's table alone says which schema a database has. `schema_version` stays at 4, so that a release that
knows nothing of Alembic refuses the database as one of a newer release.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_UNIT = ["run", "arm", "row", "sample", "variant"]


def upgrade() -> None:
    """The open units of a run stand in an index of their own, which empties as the run goes on."""
    for name, condition in (("units_open", "epoch < 0"), ("units_open_again", "epoch < -1")):
        where = sa.text(condition)
        op.create_index(name, "units", _UNIT, sqlite_where=where, postgresql_where=where)
    op.drop_index("work_by_subject", table_name="work")
    op.create_index("work_by_subject", "work", ["subject", "key"])
    op.create_index("runs_by_age", "runs", ["opened_at_s", "run"])
    op.execute("UPDATE schema_version SET version = 4")
