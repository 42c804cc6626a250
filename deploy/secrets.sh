#!/usr/bin/env bash
# Makes the secrets that docker-compose.yml needs, in .env beside it (or in the file that is named). What is there already stays:
# servers keep the passwords that their data was made with.
set -euo pipefail
umask 077

file=${1:-$(dirname "${BASH_SOURCE[0]}")/../.env}
touch "$file"
chmod 600 "$file"
# What an editor left without a newline at its end must not swallow the next line.
[ -z "$(tail -c 1 "$file")" ] || echo >>"$file"

# Hexadecimal, so that they can stand in a URL.
for name in POSTGRES_PASSWORD GATEWAY_DB_PASSWORD CATALOG_UPLOAD_DB_PASSWORD REPORT_DB_PASSWORD SMS_DISPATCH_DB_PASSWORD \
    ETL_DB_PASSWORD MONITOR_DB_PASSWORD MARIADB_ROOT_PASSWORD SALES_DB_PASSWORD RABBITMQ_PASSWORD REDIS_PASSWORD \
    KEY_ENCRYPTION_SECRET ADMIN_PASSWORD BSALE_API_TOKEN BSALE_WEBHOOK_SECRET TELNYX_API_KEY TWILIO_AUTH_TOKEN GRAFANA_PASSWORD; do
    if ! grep -q "^$name=." "$file"; then
        sed -i "/^$name=\$/d" "$file"
        printf '%s=%s\n' "$name" "$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')" >>"$file"
        echo "secrets: made $name" >&2
    fi
done
