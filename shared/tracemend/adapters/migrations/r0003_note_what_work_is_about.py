"""Schema 3: finished work says which prompt it is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A column that is empty for what was finished before."""
    op.add_column("work", sa.Column("subject", sa.String, nullable=False, server_default=sa.text("''")))
    op.create_index("work_by_subject", "work", ["subject"])
    op.execute("UPDATE schema_version SET version = 3")
