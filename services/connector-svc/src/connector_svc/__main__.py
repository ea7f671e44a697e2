"""Run connector-svc: `python -m connector_svc`."""

from bizosaas_runtime.worker import run

from .adapters import migrations
from .app.bootstrap import bootstrap
from .app.settings import Settings

if __name__ == "__main__":
    run("connector", Settings, bootstrap, migrations)
