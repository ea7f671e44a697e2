"""Accounts are found by a keyed digest of their address: no name and no address stands in this table any more."""

from alembic import op

revision = "0002"
down_revision = "0001"

# The digests of older accounts are filled in at start (`PostgresAccounts.close`), because the key is a setting.
SCHEMA = """
alter table account drop constraint account_pkey;
alter table account add column address bytea unique;
alter table account alter column email drop not null;
alter table account alter column name drop not null;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
