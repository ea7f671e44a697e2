"""`bizos audit`: the history in words, and the proof that nobody has changed it."""

import os
from pathlib import Path
from typing import Annotated

import httpx
import typer
from dotenv import dotenv_values

from .client import Client, ProblemError
from .output import Format, FormatOption, console, fail, show

UrlOption = Annotated[str, typer.Option(help="The gateway.", envvar="BIZOS_URL")]
EmailOption = Annotated[str, typer.Option(help="Who asks; the first admin of this machine by default.")]


def admin(url: str, email: str = "") -> Client:
    """A signed-in client: the password is in BIZOS_PASSWORD, or the first admin's from this machine's keys."""
    keys = dotenv_values(Path(".bizos/keys.env"))
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


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The history in words, and its verification.")
    app.add_typer(group, name="audit")

    @group.command("history")
    def history(
        tenant: Annotated[str, typer.Option(help="A tenant's id; the platform's own by default.")] = "",
        subject: Annotated[str, typer.Option(help="One object, such as connection-<id>.")] = "",
        limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
        url: UrlOption = "http://127.0.0.1:8000",
        email: EmailOption = "",
        format: FormatOption = Format.TABLE,
    ) -> None:
        """Show who did what, newest first."""
        with admin(url, email) as client:
            headers = {"Bizos_Tenant": tenant} if tenant else {}
            try:
                query = f"?limit={limit}" + (f"&subject={subject}" if subject else "")
                answer = client.ask("GET", f"/v1/audit/history{query}", **headers)
            except ProblemError as error:
                fail(str(error))
        show(answer["entries"], ("time", "actor_name", "words", "subject"), format, "There is no history yet.")

    @group.command("verify")
    def verify(
        url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "", format: FormatOption = Format.TABLE
    ) -> None:
        """Recompute the hash chain of every event of every service. Exit code 4: it is broken."""
        with admin(url, email) as client, console.status("recomputing every hash chain"):
            try:
                answer = client.ask("POST", "/v1/audit/verifications", {}, Prefer="wait=30")
            except ProblemError as error:
                fail(str(error))
        verified = answer.get("result", answer)
        rows = verified["breaks"]
        whole = f"{verified['events']} events in {verified['partitions']} partitions, all as they were recorded."
        show(rows, ("category", "partition", "position", "reason"), format, whole)
        if rows:
            raise typer.Exit(4)
