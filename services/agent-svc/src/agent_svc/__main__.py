"""Run agent-svc: `python -m agent_svc`."""

import sys

from bizosaas_runtime.worker import run

from .adapters import migrations
from .adapters.models._driver import DriverSettingsError
from .app.bootstrap import bootstrap
from .app.settings import Settings
from .domain.errors import CatalogueError

if __name__ == "__main__":
    try:
        run("agent", Settings, bootstrap, migrations)
    except (CatalogueError, DriverSettingsError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(78) from None
