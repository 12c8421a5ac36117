"""Records that the database refuses, and what tells one database from another."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False, server_default="", comment="as far as the record says"),
        sa.Column("reason", sa.Text, nullable=False, comment="why the database does not take it"),
        sa.Column("record", sa.Text, nullable=False, comment="JSON of its rows"),
        sa.Column("at", sa.Float(53), nullable=False, comment="seconds since the epoch (UTC)"),
    )
    what = "made with the database: tells it from any that takes its place"
    op.create_table(
        "identity",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(64), nullable=False, comment=what),
    )


def downgrade() -> None:
    """Back to the one before."""
    op.drop_table("identity")
    op.drop_table("dead_letters")
