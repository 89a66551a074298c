"""Rewards and verdicts. Stores that are older than migrations have these tables already, with verdicts in them: they stay."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Make what is not there."""
    op.create_table(
        "rewards",
        sa.Column("fingerprint", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "verdicts",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("reward", sa.String(32), sa.ForeignKey("rewards.fingerprint"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("written", sa.Float, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_verdicts_reward", "verdicts", ["reward"], if_not_exists=True)
