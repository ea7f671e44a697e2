"""A person is erased: nobody reads them anywhere any more, and everything that was recorded still proves itself."""

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from bizosaas_cli.client import Client
from bizosaas_cli.main import app
from bizosaas_cli.story import PASSWORD, Story
from bizosaas_cli.testing import Platform, everything_in_postgres, everything_in_redis

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("platform")]

RARE = f"Quux{secrets.token_hex(4)}"
NAME, EMAIL = f'Zoë "Z" {RARE}', f"zoe.{RARE.lower()}@people.test"
OTHER = b"Company blog"
"""Nobody's, so that it must be found."""
HISTORY = "/v1/audit/history?limit=200"


def forms(value: str) -> Iterator[bytes]:
    """A value as it may stand somewhere: in clear, escaped as JSON, and within something that was written in base64."""
    raw = value.encode()
    yield raw
    yield json.dumps(value)[1:-1].encode()
    for shift in range(3):
        middle = base64.b64encode(b"." * shift + raw)[(shift * 4 + 2) // 3 :].rstrip(b"=")[:-1]
        yield from {middle, middle.translate(bytes.maketrans(b"+/", b"-_"))}


PERSON = {form for value in (NAME, RARE, EMAIL, EMAIL.partition("@")[0]) for form in forms(value)}


def standing_in(content: bytes, needles: set[bytes]) -> bool:
    return any(needle in content for needle in needles)


async def places(platform: Platform, *folders: Path) -> tuple[set[str], set[str]]:
    """Where the person stands, and where another text does: in tables, Redis, and files, those of the servers included."""
    contents = {name: text.encode() for name, text in (await everything_in_postgres(platform)).items()}
    contents["Redis"] = (await everything_in_redis(platform)).encode()
    admin = await asyncpg.connect(platform.machine.servers[0].url)
    await admin.execute("checkpoint")  # what is only in memory is not in a file yet
    await admin.close()
    for path in [path for folder in (platform.machine.data, *folders) for path in folder.rglob("*") if path.is_file()]:
        with suppress(FileNotFoundError):  # the servers make and remove files all the time
            contents[str(path)] = path.read_bytes()
    person = {place for place, content in contents.items() if standing_in(content, PERSON)}
    return person, {place for place, content in contents.items() if standing_in(content, {OTHER})}


def words(who: Client) -> list[str]:
    return [entry["words"] for entry in who.ask("GET", HISTORY)["entries"]]


def bizos(platform: Platform, *arguments: object) -> Result:
    keys = platform.machine.keys
    where = ["--url", platform.machine.url, "--email", keys["BIZOS_ADMIN_EMAIL"]]
    environment = {"BIZOS_PASSWORD": keys["BIZOS_ADMIN_PASSWORD"]}
    told = CliRunner().invoke(app, [*map(str, arguments), *(where if arguments[0] == "audit" else [])], env=environment)
    assert told.exit_code == 0, told.output
    return told


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What was written down while the person was there."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def test_an_erased_person_is_read_nowhere_and_the_history_still_proves_itself(
    platform: Platform, story: Story, files: Path
) -> None:
    story.sign_up()
    petra, ada = story.people["petra"], story.people["ada"]
    members = f"/v1/tenants/{story.tenant}/members"
    added = story.do(
        petra, "POST", members, {"name": NAME, "email": EMAIL, "role": "tenant_admin", "password": PASSWORD}
    )
    member, path = added["id"], f"{members}/{added['id']}"
    zoe = story.sign_in("zoe", EMAIL.upper(), PASSWORD)
    story.do(zoe, "POST", "/v1/connections", story._wordpress())

    # Everybody who may see who it was, sees it.
    shown = story.read(ada, path, added)
    assert (shown["name"], shown["email"]) == (NAME, EMAIL)
    assert ada.ask("GET", members + f"?email={EMAIL}")["items"] == [shown]
    assert zoe.ask("GET", "/v1/me")["name"] == NAME
    acted = f"{NAME} asked to connect wordpress as “Company blog”"
    story.until(lambda: acted in words(ada) or None, "the connection in the history")
    feed = story.feed
    assert feed is not None
    story.until(lambda: any(acted in event for event in feed.events) or None, "the connection in the feed")
    then = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    past = f"/v1/audit/state/member/{member}?at={then}"
    assert ada.ask("GET", past)["state"]["email"] == EMAIL
    export, recording = files / "export.ndjson", files / "recording.ndjson"
    bizos(platform, "audit", "export", "--out", export, "--tenant", story.tenant)
    log = ("--service", "tenant-svc", "--data", platform.machine.data)
    bizos(platform, "replay", "record", *log, "--stream", f"member-{member}", "--out", recording)

    erased = story.do(petra, "DELETE", path)

    # The access is gone, and so is the name, wherever it was shown.
    with Client(platform.machine.url) as nobody:
        again = nobody.send("POST", "/v1/sessions", {"email": EMAIL, "password": PASSWORD})
    assert again.json()["type"] == "/problems/sign-in-refused"
    view: dict[str, Any] = story.read(ada, path, erased)
    assert zoe.send("GET", "/v1/me").status_code == 401
    assert (view["name"], view["email"], view["role"]) == ("(erased)", "(erased)", "tenant_admin")
    gone = acted.replace(NAME, "(erased)")
    story.until(lambda: gone in words(ada) or None, "the history without the name")
    assert RARE not in str(words(ada))
    state = ada.ask("GET", past)["state"]
    assert (state["name"], state["email"], state["role"]) == ("(erased)", "(erased)", "tenant_admin")
    feed.close()
    story.follow("ada")
    told = story.feed
    assert told is not None
    story.until(lambda: any(gone in event for event in told.events) or None, "the feed without the name")
    assert RARE not in str(told.events)

    # Not because nobody shows it: it stands nowhere, in no form, and its key is gone.
    person, other = asyncio.run(places(platform, files))
    assert person == set()
    looked_at = (".feed", "audit-svc public.entry", "Redis", "/pg_wal/", "/base/", "/redis/", "export.nd")
    assert [where for where in looked_at if not any(where in place for place in other)] == []
    keys = asyncio.run(everything_in_postgres(platform))["tenant-svc public.person_key"].splitlines()
    assert keys[keys.index(member) + 2] == "None"

    # Nothing that was recorded has changed, and what was exported before is what it was.
    assert "all as they were recorded" in bizos(platform, "audit", "verify").output
    # Told which key: by default it is the one of a platform that happens to have run in this folder.
    by = ("--public-key", platform.machine.keys["BIZOS_AUDIT_PUBLIC_KEY"])
    bizos(platform, "audit", "verify", "--file", export, *by)
    assert f"closed(v1:{member}:" in export.read_text()
    later = files / "later.ndjson"
    bizos(platform, "audit", "export", "--out", later, "--tenant", story.tenant)
    bizos(platform, "audit", "verify", "--file", later, *by)
    assert export.read_text().splitlines()[0] == later.read_text().splitlines()[0]
    bizos(platform, "replay", "run", recording)


def test_the_scan_would_find_what_it_looks_for() -> None:
    assert standing_in(json.dumps({"name": NAME}).encode(), PERSON)
    for before in ("", "a", "ab"):
        assert standing_in(base64.b64encode(f"{before}{EMAIL}, and more".encode()), PERSON)
        assert standing_in(base64.urlsafe_b64encode(f"{before}{NAME}".encode()), PERSON)
    assert not standing_in(b"Zoe", PERSON)
