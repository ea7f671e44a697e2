"""For all tests: shared suites explain their failures, and the event loop is one that does not fail by itself."""

import asyncio
import sys
from collections.abc import Callable

import pytest
import uvloop

pytest.register_assert_rewrite("bizosaas_events.testing", "bizosaas_ports.testing", "bizosaas_sandbox.testing")


if sys.version_info >= (3, 12):

    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """On uvloop, as the services run everywhere: since 3.12 asyncio's own loop fails, or hangs, where it writes to
        a connection that is lost (python/cpython#136234)."""
        return {"uvloop": uvloop.new_event_loop}
