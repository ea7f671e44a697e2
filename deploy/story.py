"""Brings the compose file up on its own, plays the platform's main job against it and takes it all down again.

`python deploy/story.py`, after `make images`. Linux only: containers reach this machine's loopback through the bridge.
The project, its volumes and its secrets are made for one run; a deployment beside it is not touched.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

from dotenv import dotenv_values

from bizosaas_cli.demo import play, vendor_settings
from bizosaas_cli.stage import World
from bizosaas_cli.story import Story
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.oidc import OidcProvider
from bizosaas_sandbox.servers.wordpress import start_wordpress

ROOT = Path(__file__).parents[1]
PROJECT = "bizosaas-story"
SUBNET = "{{(index .IPAM.Config 0).Subnet}}"


class Compose:
    """`docker compose` for this run's project."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **variables}
        files = ["docker-compose.yml", "deploy/docker/story.compose.yaml"]
        self._command = ["docker", "compose", "--project-directory", ".", "-p", PROJECT]
        self._command += [argument for file in files for argument in ("-f", file)]

    def __call__(self, *arguments: str) -> None:
        """Raises CalledProcessError."""
        subprocess.run([*self._command, *arguments], cwd=ROOT, env=self._environment, check=True)

    def kill(self, service: str) -> None:
        """SIGKILL, and a start as the restart policy does it: the engine takes a kill of its own for a wish to stop."""
        self("kill", service)
        self("start", service)


def _bridge() -> str:
    """This machine's address on the engine's default bridge, which containers know as host.docker.internal."""
    subnet = subprocess.check_output(["docker", "network", "inspect", "bridge", "-f", SUBNET], text=True).strip()
    return str(next(ip_network(subnet).hosts()))


def main() -> int:
    """0 when every step of the story held."""
    with tempfile.TemporaryDirectory(prefix="bizosaas-story-") as folder:
        data = Path(folder)
        secrets = data / "secrets.env"
        subprocess.run([sys.executable, str(ROOT / "deploy/env.py"), str(secrets)], check=True)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        wordpress = start_wordpress(data, say=print, cache=ROOT / ".bizos/npm")
        redirects = [f"{url}/v1/oauth/callback"]
        vendor = OidcProvider(
            data / "vendor", say=print, access_token_ttl=2, redirect_uris=redirects, cache=ROOT / ".bizos/npm"
        )
        variables = {name: value or "" for name, value in dotenv_values(secrets).items()} | {
            "GATEWAY_PORT": str(port),
            "TEMPORAL_UI_PORT": str(free_port()),
            "PUBLIC_URL": url,
            "STORY_PORTS": f"{wordpress.port} {vendor.port}",
            **vendor_settings(vendor),
        }
        compose = Compose(variables)
        keys = {"BIZOS_ADMIN_EMAIL": variables["ADMIN_EMAIL"], "BIZOS_ADMIN_PASSWORD": variables["ADMIN_PASSWORD"]}
        forward = [sys.executable, str(ROOT / "deploy/docker/forward.py"), _bridge(), "127.0.0.1"]
        forwarder = subprocess.Popen([*forward, str(wordpress.port), str(vendor.port)])
        try:
            vendor.start()
            began = time.monotonic()
            compose("up", "--detach", "--wait", "--quiet-pull")
            print(f"all containers are ready after {time.monotonic() - began:.1f} s")
            held = play(Story(World(url, keys, wordpress, vendor, lambda: compose.kill("connector-svc"))))
            if not held:
                compose("logs", "--tail", "30")
        finally:
            compose("down", "--volumes")
            forwarder.terminate()
            vendor.stop()
            wordpress.stop()
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
