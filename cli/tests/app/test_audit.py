"""Verifying exported heads and a tenant's export, where there is no platform at all."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bizosaas_cli.main import app
from bizosaas_events.chain import GENESIS, link, meta_of
from bizosaas_events.envelope import Envelope, new_id
from bizosaas_events.exported import Exported, Form, Seal, digest_of, line_of, sealed
from bizosaas_events.heads import Head, Vector, read, seal
from bizosaas_ports.sealing import export_public
from bizosaas_ports.signing import SigningKey

run = CliRunner().invoke
KEY = SigningKey(bytes(range(32)))
PUBLIC = export_public(KEY.public)
BEGIN = datetime(2026, 11, 24, 8, tzinfo=UTC)


def a_chain() -> list[Exported]:
    """Ten events of one partition; the fourth and the eighth are somebody else's."""
    found, before = [], GENESIS
    for n in range(1, 11):
        envelope = Envelope(
            id=new_id(), source="tenant-svc", type="tenant.member.signed-in.v1", subject="member-1",
            time=BEGIN + timedelta(minutes=n), tenantid="other" if n in (4, 8) else "acme", actorid="member:ann",
            actorrole="tenant_user", correlationid="c", causationid="c", partition=3, sequence=n, streamversion=n,
            data=b'{"member_id":"%d"}' % n,
        )  # fmt: skip
        hash = link(before, envelope)
        found.append(Exported("tenant", envelope, meta_of(envelope), before, hash))
        before = hash
    return found


CHAIN = a_chain()


def write(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def an_export(form: Form = "ndjson") -> list[bytes]:
    lines = [line_of(event, form) for event in CHAIN if event.envelope.tenantid == "acme"]
    said = Seal(
        tenant="acme", since=None, until=BEGIN + timedelta(days=1), format=form, after="", next="", events=len(lines),
        digest=digest_of(lines), time=BEGIN,
    )  # fmt: skip
    return [*lines, sealed(said, KEY.sign, new_id())]


def some_heads() -> list[bytes]:
    vector, lines = Vector(), []
    for n in (2, 6, 9):
        head = Head("tenant", 3, n, CHAIN[n - 1].hash.hex())
        lines.append(seal(vector.next([head], BEGIN + timedelta(minutes=n)), KEY.sign))
        vector.apply(read(lines[-1]))
    return lines


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without keys."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("form", ["ndjson", "cloudevents"])
def test_a_whole_export_holds_and_it_is_said_what_that_proves(tmp_path: Path, form: Form) -> None:
    file = write(tmp_path / "acme.ndjson", an_export(form))
    heads = write(tmp_path / "heads.ndjson", some_heads())

    told = run(app, ["audit", "verify", "--file", str(file), "--heads", str(heads), "--public-key", PUBLIC])

    assert told.exit_code == 0, told.output
    words = " ".join(told.stdout.split())
    assert "8 events of acme in 1 partitions: each is what its hash covers." in words
    assert "5 follow an event that is in the file, too; what 3 follow is another tenant's" in words
    assert "Signed heads cover 5 of them." in words, "1 2, 5 6, 9"
    assert "nothing before 2026-11-25 08:00:00 UTC was left out" in words


def test_without_the_key_it_is_said_what_nobody_can_tell(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.ndjson", an_export())
    told = run(app, ["audit", "verify", "--file", str(file)])
    assert told.exit_code == 0
    assert "Without --public-key nobody can tell" in told.stdout


def test_a_changed_event_is_found_at_its_position(tmp_path: Path) -> None:
    lines = an_export()
    lines[4] = lines[4].replace(b'"member_id":"6"', b'"member_id":"7"')
    file = write(tmp_path / "acme.ndjson", lines)

    told = run(app, ["audit", "verify", "--file", str(file), "--public-key", PUBLIC, "--format", "json"])

    assert told.exit_code == 4
    assert [(row["category"], row["partition"], row["position"]) for row in json.loads(told.stdout)] == [
        ("tenant", 3, 6), ("export", 0, 1),
    ]  # fmt: skip


def test_events_that_were_left_out_are_missed(tmp_path: Path) -> None:
    for left in (an_export()[1:], an_export()[:3], []):
        file = write(tmp_path / "acme.ndjson", left)
        assert run(app, ["audit", "verify", "--file", str(file), "--public-key", PUBLIC]).exit_code == 4


def test_a_seal_of_another_key_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.ndjson", an_export())
    other = export_public(SigningKey(bytes(32)).public)
    told = run(app, ["audit", "verify", "--file", str(file), "--public-key", other])
    assert told.exit_code == 4
    assert "not sealed by this key" in " ".join(told.stdout.split())
    both = run(app, ["audit", "verify", "--file", str(file), "--public-key", other, "--public-key", PUBLIC])
    assert both.exit_code == 0


@pytest.mark.parametrize("change", ["changed", "removed", "swapped"])
def test_heads_that_were_tampered_with_are_refused(tmp_path: Path, change: str) -> None:
    first, second, third = some_heads()
    lines = {
        "changed": [first, second.replace(b'"tenant",3,6', b'"tenant",3,7'), third],
        "removed": [first, third],
        "swapped": [first, third, second],
    }[change]
    heads, file = write(tmp_path / "heads.ndjson", lines), write(tmp_path / "acme.ndjson", an_export())

    told = run(
        app, ["audit", "verify", "--file", str(file), "--heads", str(heads), "--public-key", PUBLIC, "-f", "json"]
    )

    assert told.exit_code == 4
    assert [(row["category"], row["position"]) for row in json.loads(told.stdout)] == [("heads", 2)]


def test_an_export_that_departs_from_the_signed_heads_is_found(tmp_path: Path) -> None:
    vector = Vector()
    line = seal(vector.next([Head("tenant", 3, 6, "ab" * 32)], BEGIN), KEY.sign)
    heads, file = write(tmp_path / "heads.ndjson", [line]), write(tmp_path / "acme.ndjson", an_export())
    told = run(app, ["audit", "verify", "--file", str(file), "--heads", str(heads), "--public-key", PUBLIC])
    assert told.exit_code == 4
    assert "not the one that was signed" in " ".join(told.stdout.split())


def test_the_machines_own_key_is_used(tmp_path: Path) -> None:
    (tmp_path / ".bizos").mkdir()
    (tmp_path / ".bizos/keys.env").write_text(f"BIZOS_AUDIT_PUBLIC_KEY={PUBLIC}\n")
    file = write(tmp_path / "acme.ndjson", an_export())
    assert "The signed seals say" in run(app, ["audit", "verify", "--file", str(file)]).stdout


def test_whose_key_it_was_is_said_of_an_export_that_does_not_hold(tmp_path: Path) -> None:
    other = export_public(SigningKey(bytes(32)).public)
    (tmp_path / ".bizos").mkdir()
    (tmp_path / ".bizos/keys.env").write_text(f"BIZOS_AUDIT_PUBLIC_KEY={other}\n")
    file = write(tmp_path / "acme.ndjson", an_export())
    told = run(app, ["audit", "verify", "--file", str(file)])
    assert told.exit_code == 4
    assert "The key is the one in .bizos/keys.env" in " ".join(told.stderr.split())
    told = run(app, ["audit", "verify", "--file", str(file), "--public-key", other])
    assert told.exit_code == 4
    assert "The key is" not in told.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--heads", "heads.ndjson"], "give --public-key"),
        (["--file", "none.ndjson"], "none.ndjson cannot be read: No such file"),
        (["--file", "none.ndjson", "--public-key", "c2hvcnQ="], "--public-key is no Ed25519 public key"),
        (["--heads", "none.ndjson", "--public-key", PUBLIC], "none.ndjson cannot be read"),
    ],
)
def test_what_is_missing_is_said(options: list[str], said: str) -> None:
    told = run(app, ["audit", "verify", *options])
    assert told.exit_code == 1
    assert said in " ".join(told.stderr.split())


def test_an_export_never_overwrites_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.ndjson", [])
    told = run(app, ["audit", "export", "--out", str(file)])
    assert told.exit_code == 1
    assert "name a new file" in " ".join(told.stderr.split())
