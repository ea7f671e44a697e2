"""`bizos audit`: the history in words, the proof that nobody has changed it, and an export to keep elsewhere."""

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from dotenv import dotenv_values

from bizosaas_events.export_check import ExportReading
from bizosaas_events.exported import SealedPage, parse
from bizosaas_ports.sealing import parse_public

from . import verifying
from .client import Client, ProblemError
from .keys import AUDIT_PUBLIC_KEY
from .output import Format, FormatOption, console, errors, fail, show

BROKEN = 4
"""The exit code for a journal or an export that is not what was recorded."""
KEYS = Path(".bizos/keys.env")

UrlOption = Annotated[str, typer.Option(help="The gateway.", envvar="BIZOS_URL")]
EmailOption = Annotated[str, typer.Option(help="Who asks; the first admin of this machine by default.")]
TenantOption = Annotated[str, typer.Option(help="A tenant's id; the platform's own by default.")]


class ExportFormat(StrEnum):
    NDJSON = "ndjson"
    CLOUDEVENTS = "cloudevents"


def admin(url: str, email: str = "") -> Client:
    """A signed-in client: the password is in BIZOS_PASSWORD, or the first admin's from this machine's keys."""
    keys = dotenv_values(KEYS)
    email = email or keys.get("BIZOS_ADMIN_EMAIL") or ""
    password = os.environ.get("BIZOS_PASSWORD") or keys.get("BIZOS_ADMIN_PASSWORD") or ""
    if not (email and password):
        fail("Nobody to sign in as: give --email, and the password in BIZOS_PASSWORD.")
    try:
        return Client.signed_in(url, email, password)
    except ProblemError as error:
        fail(f"Signing in as {email} was refused: {error}")
    except httpx.TransportError:
        fail(f"Nothing answers at {url}: start the platform with `bizos up`, or give --url.")


def public_keys(given: Sequence[str]) -> list[bytes]:
    """The keys that sign; this machine's own where none is given."""
    try:
        return [parse_public(key) for key in given or [dotenv_values(KEYS).get(AUDIT_PUBLIC_KEY) or ""] if key]
    except ValueError as error:
        fail(f"--public-key is no Ed25519 public key in base64: {error}. `bizos keys` makes BIZOS_AUDIT_PUBLIC_KEY.")


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The history in words, its verification and its export.")
    app.add_typer(group, name="audit")

    @group.command("history")
    def history(
        tenant: TenantOption = "",
        subject: Annotated[str, typer.Option(help="One object, such as connection-<id>.")] = "",
        limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
        url: UrlOption = "http://127.0.0.1:8000",
        email: EmailOption = "",
        format: FormatOption = Format.TABLE,
    ) -> None:
        """Show who did what, newest first."""
        with admin(url, email) as client:
            try:
                query = f"?limit={limit}" + (f"&subject={subject}" if subject else "")
                answer = client.ask("GET", f"/v1/audit/history{query}", **_for(tenant))
            except ProblemError as error:
                fail(str(error))
        show(answer["entries"], ("time", "actor_name", "words", "subject"), format, "There is no history yet.")

    @group.command("verify")
    def verify(
        heads: Annotated[
            Path | None,
            typer.Option(help="Signed heads that were exported: hold the journal, or --file, against them."),
        ] = None,
        file: Annotated[Path | None, typer.Option(help="One tenant's export: check it without the platform.")] = None,
        public_key: Annotated[
            list[str] | None, typer.Option(help="Who signs, in base64; this machine's key by default. May be repeated.")
        ] = None,
        url: UrlOption = "http://127.0.0.1:8000",
        email: EmailOption = "",
        format: FormatOption = Format.TABLE,
    ) -> None:
        """Recompute the hash chain of every event of every service. Exit code 4: it is broken."""
        keys = public_keys(public_key or [])
        if heads is not None and not keys:
            fail("Nobody knows who signed: give --public-key, which `bizos keys` made as BIZOS_AUDIT_PUBLIC_KEY.")
        try:
            if file is not None:
                rows, whole = _verify_file(file, heads, keys)
            else:
                rows, whole = _verify_journal(heads, keys, url, email)
        except OSError as error:
            fail(f"{error.filename} cannot be read: {error.strerror}.")
        show(rows, ("category", "partition", "position", "reason"), format, whole)
        if rows:
            if file is not None and keys and not public_key:
                errors.print(f"The key is the one in {KEYS}: for an export of another platform, give its --public-key.")
            raise typer.Exit(BROKEN)

    @group.command("export")
    def export(
        out: Annotated[Path, typer.Option(help="The new file.")],
        tenant: TenantOption = "",
        since: Annotated[str, typer.Option("--from", help="Only from this moment on: 2026-01-31T00:00:00Z.")] = "",
        until: Annotated[str, typer.Option("--to", help="Only before this moment; now by default.")] = "",
        format: Annotated[
            ExportFormat, typer.Option("--format", "-f", help="Our own lines, or CloudEvents.")
        ] = ExportFormat.NDJSON,
        url: UrlOption = "http://127.0.0.1:8000",
        email: EmailOption = "",
    ) -> None:
        """Write all of a tenant's events into a file, one line of JSON each, with what proves them."""
        if out.exists():
            fail(f"{out} exists: name a new file.")
        asked = {"from": since, "to": until, "format": format.value}
        with admin(url, email) as client:
            try:
                lines = _download(client, out, {name: value for name, value in asked.items() if value}, tenant)
            except ProblemError as error:
                fail(str(error))
            except (httpx.HTTPError, ValueError) as error:
                fail(f"The export was broken off: {error}. Nothing was written; try again.")
            except OSError as error:
                fail(f"{out} cannot be written: {error.strerror}.")
        console.print(f"{lines} events in {out}. `bizos audit verify --file {out}` checks them.", soft_wrap=True)


def _verify_journal(
    heads: Path | None, keys: Sequence[bytes], url: str, email: str
) -> tuple[list[verifying.Break], str]:  # fmt: skip
    """What is wrong with the journal, or what to say when it holds."""
    rows: list[verifying.Break] = []
    reading = None
    if heads is not None:
        with verifying.progress("checking every signature") as advance:
            reading = verifying.read_heads(heads, verifying.by_keys(keys), advance)
        rows += verifying.heads_breaks(reading)
    with admin(url, email) as client:
        try:
            with verifying.progress("recomputing every hash chain") as advance:
                verified = verifying.verify_journal(client, advance)
            rows += verified["breaks"]
            if heads is not None and reading is not None:
                rows += verifying.hold_against_journal(client, heads, reading, rows)
        except ProblemError as error:
            fail(str(error))
        except httpx.HTTPError as error:
            fail(f"The gateway stopped answering: {error}. Try again.")
    return rows, _whole_journal(verified, reading.vector.time if reading else None)


def _whole_journal(verified: dict[str, Any], exported_until: Any) -> str:
    said = f"{verified['events']} events in {verified['partitions']} partitions, all as they were recorded."
    if exported_until:
        return f"{said} The exported heads prove it up to {exported_until:%Y-%m-%d %H:%M:%S} UTC."
    if verified.get("signed_until"):
        return f"{said} Signed heads prove it up to {verified['signed_until'][:19].replace('T', ' ')} UTC."
    return f"{said} No heads were signed yet: who can write to the database could have recomputed them."


def _verify_file(
    file: Path, heads: Path | None, keys: Sequence[bytes]
) -> tuple[list[verifying.Break], str]:  # fmt: skip
    """Likewise for one tenant's export, without the platform."""
    verify = verifying.by_keys(keys) if keys else None
    with verifying.progress("checking every event") as advance:
        reading = verifying.read_export(file, verify, advance)
    rows = []
    if heads is not None and verify is not None:
        rows = verifying.heads_breaks(verifying.hold_against_heads(reading, heads, verify))
    reading.end()
    rows += verifying.export_breaks(reading)
    return rows, "" if rows else _whole_export(reading, bool(keys), heads is not None)


def _whole_export(reading: ExportReading, keys: bool, heads: bool) -> str:
    """What is proven of an export, and what is not."""
    seal = reading.seal
    assert seal is not None, "an export without a seal is broken"
    alone = reading.events - reading.linked
    said = [
        f"{reading.events} events of {seal.tenant} in {reading.chains} partitions: each is what its hash covers.",
        f"{reading.linked} follow an event that is in the file, too; what {alone} follow is another tenant's, or before "
        "the file, and only the journal can tell.",
    ]
    if heads:
        said.append(f"Signed heads cover {reading.anchored} of them.")
    if keys:
        said.append(f"The signed seals say that nothing before {seal.until:%Y-%m-%d %H:%M:%S} UTC was left out.")
    else:
        said.append("Without --public-key nobody can tell whether events were left out, or all of it was made up.")
    return "\n".join(said)


def _download(client: Client, out: Path, asked: dict[str, str], tenant: str) -> int:
    """Write the export beside its place, and put it there once its last seal has come. Returns the number of events."""
    part = out.with_name(f"{out.name}.part")
    headers = {name.replace("_", "-"): value for name, value in _for(tenant).items()}
    events, last = 0, b""
    try:
        with client.http.stream("GET", "/v1/audit/export", params=asked, headers=headers) as response:
            if response.status_code >= 400:
                response.read()
                raise ProblemError(response)
            with part.open("wb") as file, verifying.progress("events") as advance:
                for line in _lines(response):
                    file.write(line + b"\n")
                    if isinstance(found := parse(line), SealedPage):
                        events += found.seal.events
                        advance(events, None)
                    last = line
        if not last or not isinstance(end := parse(last), SealedPage) or end.seal.next:
            raise httpx.RemoteProtocolError("its last seal did not come")
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)
    return events


def _lines(response: httpx.Response) -> Any:
    """The lines as bytes: what counts as a line's end in text does not here."""
    rest = b""
    for chunk in response.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        raise httpx.RemoteProtocolError("its last line was cut off")


def _for(tenant: str) -> dict[str, str]:
    return {"Bizos_Tenant": tenant} if tenant else {}
