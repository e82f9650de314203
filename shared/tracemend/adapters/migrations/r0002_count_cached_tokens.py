"""Schema 2: costs say how many prompt tokens came from a cache."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A column that is 0 for what was spent before."""
    op.add_column("costs", sa.Column("num_cached_tokens", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.execute("UPDATE schema_version SET version = 2")
