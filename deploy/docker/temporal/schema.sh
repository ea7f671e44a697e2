#!/bin/sh
# Brings Temporal's two databases to the schema of this image's server; both exist already and belong to the role temporal.
set -eu
for database in temporal temporal_visibility; do
  folder=${database#temporal_}
  tool="temporal-sql-tool --plugin postgres12 --ep $POSTGRES_SEEDS --port 5432 --user $POSTGRES_USER --database $database"
  # setup-schema would start again from version 0, so only where no version is recorded yet. The password is in SQL_PASSWORD.
  $tool update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/$folder/versioned" \
    || { $tool setup-schema --version 0.0 && $tool update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/$folder/versioned"; }
done
