"""deploy/postgresql/roles.sh in a real PostgreSQL, as the image runs it: as the superuser, over the server's socket."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from sources import ROOT, services

SERVICES = ("gateway", "catalog_upload", "report", "sms_dispatch", "etl")
PASSWORDS = {f"{name.upper()}_DB_PASSWORD": f"of-{name}-'\"$" for name in (*SERVICES, "monitor")}


@pytest.fixture(scope="module")
def socket():
    """The folder of a server's socket. PostgreSQL refuses to run as root."""
    binaries = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lote-roles-", dir="/tmp"))
    prefix = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]

    def as_postgres(*command):
        subprocess.run([*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/")

    password = folder / "password"
    password.write_text("super")
    password.chmod(0o644)
    as_postgres(binaries / "initdb", "--pgdata", folder / "data", "--username", "postgres", "--auth-local", "trust",
                "--auth-host", "scram-sha-256", "--pwfile", password)
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    as_postgres(binaries / "pg_ctl", "--pgdata", folder / "data", "--log", folder / "data/log", "--wait", "-o", options, "start")
    try:
        psql(folder, "postgres", "create database lote", database="postgres")
        done = subprocess.run([ROOT / "deploy/postgresql/roles.sh"], capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "PGHOST": str(folder), **PASSWORDS})
        assert done.returncode == 0, done.stderr
        yield folder
    finally:
        as_postgres(binaries / "pg_ctl", "--pgdata", folder / "data", "--mode", "immediate", "stop")
        shutil.rmtree(folder)


def psql(folder, role, sql, database="lote", wrong=False):
    done = subprocess.run(
        ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--host", folder,
         "--username", role, "--dbname", database, "--command", sql], capture_output=True, text=True)
    assert (done.returncode != 0) == wrong, done.stderr
    return done.stderr if wrong else done.stdout.strip()


def test_each_service_has_a_role_and_a_schema_of_its_own(socket):
    assert {name.replace("-", "_") for name in services()} == set(SERVICES)
    for role in SERVICES:
        psql(socket, role, "create table mine (id int)")
        assert psql(socket, role, "select current_schema()") == role
    assert "permission denied" in psql(socket, "report", "select * from gateway.mine", wrong=True)
    assert "permission denied" in psql(socket, "report", "create table public.theirs (id int)", wrong=True)


def test_passwords_are_taken_whole(socket):
    # The server says only whether it has one; quotes in it must not have ended the statement.
    made = psql(socket, "postgres", "select count(*) from pg_authid where rolcanlogin and rolpassword like 'SCRAM%'")
    assert int(made) == len(SERVICES) + 2


def test_the_exporters_role_reads_statistics_alone(socket):
    assert int(psql(socket, "monitor", "select count(*) from pg_stat_activity")) > 0
    assert "permission denied" in psql(socket, "monitor", "select * from report.mine", wrong=True)
