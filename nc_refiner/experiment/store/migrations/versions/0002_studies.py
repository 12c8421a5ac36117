"""Studies, and of every vote both arms and the clip."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "studies",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False, comment="of sides and orders"),
        sa.Column("secret", sa.String(64), nullable=False, comment="key of the names that clips have in a browser"),
        sa.Column("settings", sa.JSON, nullable=False, comment="arms, control, items with the digests of their clips"),
        sa.Column("at", sa.Float(53), nullable=False, comment="seconds since the epoch (UTC)"),
    )
    op.add_column("votes", sa.Column("right_arm", sa.Text, nullable=False, server_default=""))
    what = "what the pair was cut from; pairs of one depend"
    op.add_column("votes", sa.Column("clip", sa.Text, nullable=False, server_default="", comment=what))


def downgrade() -> None:
    """Back to the one before."""
    op.drop_column("votes", "clip")
    op.drop_column("votes", "right_arm")
    op.drop_table("studies")
