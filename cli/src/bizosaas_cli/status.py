"""`bizos status`: what runs on this machine, and whether it is ready."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import typer

from bizosaas_sandbox.servers.children import answers

from .output import Format, FormatOption, fail, show
from .up import DataOption


def look(service: dict[str, Any]) -> dict[str, Any]:
    """One service as it answers now."""
    try:
        answer = httpx.get(f"{service['url']}/readyz", timeout=3).json()
    except (httpx.TransportError, ValueError):
        return {**service, "status": "no answer", "problem": "the process does not answer"}
    problems = "; ".join(f"{name}: {text}" for name, text in answer.get("problems", {}).items())
    return {**service, "status": answer.get("status", "?"), "problem": problems}


def look_at_server(server: dict[str, Any]) -> dict[str, Any]:
    """One server: whether something accepts connections where it was."""
    version = f"{server['version']} ({server['source']})"
    port = urlsplit(f"//{server['url'].rpartition('://')[2]}").port
    if port is None or not answers(port):
        return {**server, "version": version, "status": "no answer", "problem": f"nothing listens on port {port}"}
    return {**server, "version": version, "status": "answers"}


def register(app: typer.Typer) -> None:
    @app.command("status")
    def status(data: DataOption = Path(".bizos"), format: FormatOption = Format.TABLE) -> None:
        """Show every service and server of the platform that runs on this machine. Exit code 3: not all are ready."""
        note = data / "run.json"
        if not note.exists():
            fail(f"Nothing runs on {data}: start it with `bizos up`.")
        run = json.loads(note.read_text())
        services = [look(service) for service in run["services"]]
        servers = [look_at_server(server) for server in run["servers"]]
        show([*services, *servers], ("name", "status", "version", "url", "problem"), format, "")
        if any(found["status"] not in ("ready", "answers") for found in (*services, *servers)):
            raise typer.Exit(3)
