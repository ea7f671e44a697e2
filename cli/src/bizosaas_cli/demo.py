"""`bizos demo`: the platform's main job, played through its HTTP API on real counterparts."""

import time
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.markup import escape

from bizosaas_sandbox.servers.base import ServerError, UnavailableError
from bizosaas_sandbox.servers.oidc import OidcProvider
from bizosaas_sandbox.servers.process import ProcessServer
from bizosaas_sandbox.servers.wordpress import start_wordpress

from .client import ProblemError
from .machine import CannotStartError, Machine
from .output import console, fail
from .stage import StoryError, World
from .story import Story
from .up import (
    DataOption,
    PortOption,
    TemporalPortOption,
    addresses,
    at_interrupt,
    interrupt_at_sigterm,
    say,
    wait_for,
)


def register(app: typer.Typer) -> None:
    @app.command("demo")
    def demo(
        data: DataOption = Path(".bizos"),
        port: PortOption = 8000,
        temporal_port: TemporalPortOption = 8233,
        once: Annotated[
            bool, typer.Option("--once", help="Stop after the story instead of waiting for Ctrl-C.")
        ] = False,
    ) -> None:
        """Start the platform with a WordPress and an OAuth vendor beside it, and play the main job step by step."""
        interrupt_at_sigterm()
        counterparts: list[ProcessServer] = []
        vendor = OidcProvider(
            data.absolute() / "vendor",
            say=say,
            access_token_ttl=2,
            redirect_uris=[f"http://127.0.0.1:{port}/v1/oauth/callback"],
        )
        machine = Machine(data, say, port=port, temporal_ui_port=temporal_port, extra=vendor_settings(vendor))
        held = False
        try:
            counterparts.append(started(vendor))  # first: without it there is no story to start the platform for
            with machine:
                wordpress = start_wordpress(data.absolute(), say=say)
                counterparts.append(wordpress)
                held = play(
                    Story(World(machine.url, machine.keys, wordpress, vendor, machine.services["connector-svc"].kill))
                )
                if not once:
                    stop = at_interrupt()
                    addresses(machine)
                    console.print(f"  WordPress      {wordpress.url}\n\nThe platform stays up; Ctrl-C stops all of it.")
                    wait_for(stop)
                say("draining and stopping")
        except (CannotStartError, ServerError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("Interrupted; everything is stopped again.", 130)
        finally:
            for counterpart in counterparts:
                counterpart.stop()
        say("stopped")
        raise typer.Exit(0 if held else 1)


def started(vendor: OidcProvider) -> OidcProvider:
    """The OAuth vendor, or one sentence why there is none: nothing takes its place."""
    try:
        return vendor.start()
    except UnavailableError as error:
        fail(
            f"The demo's OAuth vendor, {vendor.name}, cannot be had: {error.reason}. It is fetched from npm once: let "
            "npm reach a registry (npm_config_registry names one), or run the platform alone with `bizos up`."
        )


def vendor_settings(vendor: OidcProvider) -> dict[str, str]:
    """What connector-svc and secret-svc must know of the OAuth vendor."""
    return {
        "BIZOS_OAUTH_OPENID_ISSUER": vendor.url,
        "BIZOS_OAUTH_OPENID_CLIENT_ID": vendor.client_id,
        "BIZOS_SECRET_OAUTH_OPENID_CLIENT_SECRET": vendor.client_secret,
    }


def play(story: Story) -> bool:
    """Play every step and say how it ended; True when all held."""
    began = time.monotonic()
    try:
        with story:
            story.play()
    except (StoryError, ProblemError, httpx.HTTPError) as error:
        console.print(f"\n[red]✗ The story broke:[/red] {escape(str(error))}", soft_wrap=True)
        return False
    console.print(f"\n[green]✓ Every step held[/green], in {time.monotonic() - began:.1f} s.")
    return True
