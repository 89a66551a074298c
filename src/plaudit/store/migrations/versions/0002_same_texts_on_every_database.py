"""Texts of any length in the order of their bytes on PostgreSQL, as SQLite has them anyway; listing reads an index only."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"

COLUMNS = (("rewards", "fingerprint", "C"), ("verdicts", "key", "C"), ("verdicts", "reward", "C"), ("verdicts", "kind", None))


def upgrade() -> None:
    """PostgreSQL refuses a text that is longer than its column, and sorts by the rules of a language."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("verdicts_reward_fkey", "verdicts")
        for table, column, collation in COLUMNS:
            op.alter_column(table, column, type_=sa.Text(collation=collation), existing_nullable=False)
        op.create_foreign_key("verdicts_reward_fkey", "verdicts", "rewards", ["reward"], ["fingerprint"])
    op.create_index("ix_verdicts_reward_written", "verdicts", ["reward", "written"])
    op.drop_index("ix_verdicts_reward", "verdicts", if_exists=True)
