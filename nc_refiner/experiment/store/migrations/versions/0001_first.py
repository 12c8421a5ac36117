"""Requests, exposures, measurements, errors, switches, votes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(64), primary_key=True)


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _at() -> sa.Column[float]:
    return sa.Column("at", sa.Float(53), nullable=False, comment="seconds since the epoch (UTC)")


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "requests",
        _id(),
        *_text("experiment", "unit"),
        sa.Column("assigned", sa.Text, nullable=False, comment="the arm the unit was given"),
        sa.Column("served", sa.Text, comment="the arm whose output was returned; null if the request failed"),
        sa.Column("role", sa.String(16), nullable=False, comment="live or shadow"),
        sa.Column("reason", sa.String(16), nullable=False, comment="split, flag, holdout, layer, ramp, default, off"),
        sa.Column("weight", sa.Float(53)),
        sa.Column("pair", sa.String(64)),
        sa.Column("seed", sa.BigInteger),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("receipt", sa.JSON),
        _at(),
    )
    op.create_table("exposures", _id(), *_text("experiment", "unit", "arm"), sa.Column("weight", sa.Float(53)), _at())
    op.create_table(
        "measurements",
        _id(),
        *_text("experiment", "unit", "arm", "metric"),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("request", sa.String(64)),
        sa.Column("pair", sa.String(64)),
        sa.Column("seed", sa.BigInteger),
        _at(),
    )
    op.create_table(
        "errors",
        _id(),
        *_text("experiment", "unit", "arm"),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False, comment="raised, nan, time, memory, busy, caller"),
        *_text("message"),
        _at(),
    )
    op.create_table(
        "switches",
        _id(),
        *_text("experiment"),
        sa.Column("arm", sa.Text, nullable=False, comment="empty: the whole experiment"),
        sa.Column("is_on", sa.Boolean, nullable=False),
        *_text("reason"),
        _at(),
    )
    op.create_table(
        "votes",
        _id(),
        *_text("study", "rater", "pair", "question"),
        sa.Column("choice", sa.Text, nullable=False, comment="the arm that was preferred, or tie"),
        *_text("left_arm"),
        sa.Column("seconds", sa.Float(53), nullable=False, comment="from shown to answered"),
        _at(),
    )
    for table in ("requests", "exposures", "measurements", "errors", "switches"):
        op.create_index(f"{table}_by_time", table, ["experiment", "at"])
    op.create_index("votes_by_time", "votes", ["study", "at"])


def downgrade() -> None:
    """Back to the one before."""
    for table in ("votes", "switches", "errors", "measurements", "exposures", "requests"):
        op.drop_table(table)
