"""The journal from the outside: verified against signed heads, exported, tampered with by who owns the database."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from bizosaas_cli.main import app
from bizosaas_cli.story import Story
from bizosaas_cli.testing import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("platform")]


class Auditor:
    """Somebody at the command line of another machine, with a copy of the signed heads and the public key."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        self.keys = platform.machine.keys

    def run(self, *arguments: str | Path) -> Result:
        where = ["--url", self.platform.machine.url, "--email", self.keys["BIZOS_ADMIN_EMAIL"]]
        environment = {"BIZOS_PASSWORD": self.keys["BIZOS_ADMIN_PASSWORD"]}
        return CliRunner().invoke(app, ["audit", *map(str, arguments), *where], env=environment)

    def verify(self, *arguments: str | Path) -> list[tuple[str, int, int]]:
        """What is broken."""
        told = self.run("verify", *arguments, "--public-key", self.keys["BIZOS_AUDIT_PUBLIC_KEY"], "--format", "json")
        rows = json.loads(told.stdout)
        assert told.exit_code == (4 if rows else 0), told.output
        return [(row["category"], row["partition"], row["position"]) for row in rows]

    async def heads(self) -> Path:
        """A copy of the signed heads that covers all that is journalled now."""
        path = self.folder / "heads.ndjson"
        rows = await self.sql("select sum(position) as events from chain_head")
        for _ in range(100):
            path.write_bytes((self.platform.machine.data / "heads.ndjson").read_bytes())
            told = self.run("verify", "--heads", path, "--public-key", self.keys["BIZOS_AUDIT_PUBLIC_KEY"])
            assert told.exit_code == 0, told.output
            last: dict[tuple[str, int], int] = {}
            for line in path.read_bytes().splitlines():
                last |= {(h[0], h[1]): h[2] for h in json.loads(line)["statement"]["heads"]}
            if sum(last.values()) >= rows[0]["events"]:
                return path
            await asyncio.sleep(0.5)
        raise AssertionError("the heads were not signed")

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """As the owner of the journal's database."""
        url = self.platform.machine.services["audit-svc"].settings["BIZOS_DATABASE_URL"]
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()


@pytest.fixture
def auditor(platform: Platform, played: Story, tmp_path: Path) -> Auditor:
    return Auditor(platform, tmp_path)


async def test_the_journal_is_verified_and_so_is_what_was_signed_of_it(auditor: Auditor) -> None:
    told = auditor.run("verify")
    assert told.exit_code == 0
    assert "all as they were recorded. Signed heads prove it up to 20" in " ".join(told.stdout.split())
    assert auditor.verify("--heads", await auditor.heads()) == []


async def test_a_tenants_history_is_exported_and_verified_without_the_platform(auditor: Auditor, played: Story) -> None:
    heads = await auditor.heads()
    for form in ("ndjson", "cloudevents"):
        out = auditor.folder / f"acme.{form}"
        told = auditor.run("export", "--tenant", played.tenant, "--out", out, "--format", form)
        assert told.exit_code == 0, told.output
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        events = [line for line in lines if line.get("tenant", line.get("tenantid")) == played.tenant]
        assert len(events) > 30
        assert auditor.verify("--file", out) == []
        assert auditor.verify("--file", out, "--heads", heads) == []
        position = events[5].get("position", events[5].get("sequence"))
        out.write_bytes(out.read_bytes().replace(events[5]["id"].encode(), events[6]["id"].encode(), 1))
        assert (auditor.verify("--file", out)[0][2], len(auditor.verify("--file", out))) == (int(position), 2)


async def test_who_owns_the_database_changes_nothing_unseen(auditor: Auditor) -> None:
    heads = await auditor.heads()
    (row,) = await auditor.sql("select category, part, position from chain_head where position > 3 limit 1")
    category, part, end = row
    chain = "category = $1 and part = $2"
    await auditor.sql("alter table entry disable trigger all")
    try:
        flip = f"update entry set data = set_byte(data, 10, get_byte(data, 10) # 1) where {chain} and position = 2"
        await auditor.sql(flip, category, part)
        assert auditor.verify() == auditor.verify("--heads", heads) == [(category, part, 2)]
        await auditor.sql(flip, category, part)
        assert auditor.verify() == []

        # The end of a chain goes, and the head recorded beside it is made to fit.
        await auditor.sql(
            f"create table gone as select * from entry where {chain} and position = $3", category, part, end
        )
        await auditor.sql(f"delete from entry where {chain} and position = $3", category, part, end)
        before = f"(select hash from entry where {chain} and position = $3 - 1)"
        await auditor.sql(
            f"update chain_head set position = $3 - 1, hash = {before} where {chain}", category, part, end
        )  # fmt: skip
        assert auditor.verify() == auditor.verify("--heads", heads) == [(category, part, end)]
        await auditor.sql("insert into entry select * from gone")
        await auditor.sql(
            f"update chain_head set position = $3, hash = (select hash from gone) where {chain}", category, part, end
        )  # fmt: skip
    finally:
        await auditor.sql("drop table if exists gone")
        await auditor.sql("alter table entry enable trigger all")
    assert auditor.verify("--heads", heads) == []
