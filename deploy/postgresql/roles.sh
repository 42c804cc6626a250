#!/usr/bin/env bash
# Runs once, when the server's data is made: a role and a schema a service, and no grants across. The role `monitor` reads
# statistics only.
set -euo pipefail

run() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --dbname lote "$@"; }

for service in gateway catalog_upload report sms_dispatch etl; do
    variable=${service^^}_DB_PASSWORD
    run --set role="$service" --set password="${!variable:?}" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE SCHEMA :"role" AUTHORIZATION :"role";
ALTER ROLE :"role" SET search_path = :"role";
SQL
done
run --set password="${MONITOR_DB_PASSWORD:?}" <<'SQL'
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE ROLE monitor LOGIN PASSWORD :'password' IN ROLE pg_monitor;
SQL
