"""The whole platform for tests of journeys."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.oidc import OidcProvider
from bizosaas_sandbox.servers.wordpress import WordPress, WordPressStandIn, start_wordpress

from .demo import vendor_settings
from .machine import Machine
from .stage import World
from .story import Story


@dataclass(frozen=True)
class Platform:
    """A running platform, with a CMS and an OAuth vendor beside it."""

    machine: Machine
    blog: WordPress | WordPressStandIn
    vendor: OidcProvider

    def story(self) -> Story:
        """A story to play; each makes a tenant of its own."""
        kill = self.machine.services["connector-svc"].kill
        return Story(World(self.machine.url, self.machine.keys, self.blog, self.vendor, kill))


@contextmanager
def running_platform(folder: Path) -> Iterator[Platform]:
    """Start all of it on free ports, and stop it. Raises the sandbox's UnavailableError where there is no vendor."""
    port = free_port()
    callback = f"http://127.0.0.1:{port}/v1/oauth/callback"
    with OidcProvider(folder / "vendor", access_token_ttl=2, redirect_uris=[callback]) as vendor:
        # Heads are signed often, since nobody wants to wait for them here.
        settings = vendor_settings(vendor) | {"BIZOS_HEADS_SECONDS": "2"}
        machine = Machine(folder, lambda text: None, port=port, temporal_ui_port=free_port(), extra=settings)
        with machine, start_wordpress(folder) as blog:
            yield Platform(machine, blog, vendor)
