"""`bizos up`: the whole platform on this machine, until Ctrl-C."""

import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bizosaas_sandbox.servers.base import ServerError

from .machine import CannotStartError, Machine
from .output import console, fail

DataOption = Annotated[Path, typer.Option(help="Where everything is kept.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Port of the HTTP API.")]
TemporalPortOption = Annotated[
    int, typer.Option("--temporal-port", min=1, max=65535, help="Port of Temporal's web page.")
]

_began = time.monotonic()


def say(text: str) -> None:
    """Progress, with the seconds since the start."""
    console.print(f"[dim]{time.monotonic() - _began:6.1f} s[/dim]  {escape(text)}", highlight=False, soft_wrap=True)


def interrupt_at_sigterm() -> None:
    """While things start, SIGTERM is what Ctrl-C is: what was started by then is stopped in order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def at_interrupt() -> threading.Event:
    """From now on Ctrl-C and SIGTERM set this, and do nothing else."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def wait_for(stop: threading.Event) -> None:
    """Return when it is set."""
    while not stop.wait(0.5):
        pass


def addresses(machine: Machine) -> None:
    """Where everything is, and how to sign in first."""
    console.print(f"""
  API            {machine.url}/v1
  documentation  {machine.url}/docs
  Temporal       http://127.0.0.1:{machine.temporal_ui_port}
  first admin    {machine.keys["BIZOS_ADMIN_EMAIL"]}, password in {machine.data / "keys.env"}
""")


def register(app: typer.Typer) -> None:
    @app.command("up")
    def up(
        data: DataOption = Path(".bizos"), port: PortOption = 8000, temporal_port: TemporalPortOption = 8233
    ) -> None:
        """Run PostgreSQL, Redis, Temporal and all services on this machine until Ctrl-C."""
        interrupt_at_sigterm()
        machine = Machine(data, say, port=port, temporal_ui_port=temporal_port)
        try:
            with machine:
                stop = at_interrupt()
                addresses(machine)
                console.print("Ctrl-C stops all of it.")
                wait_for(stop)
                say("draining and stopping")
        except (CannotStartError, ServerError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("Interrupted while starting; everything is stopped again.", 130)
        say("stopped")
