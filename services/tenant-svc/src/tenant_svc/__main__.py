"""Run tenant-svc: `python -m tenant_svc`."""

from bizosaas_runtime.worker import run

from .adapters import migrations
from .app.bootstrap import bootstrap
from .app.settings import Settings

if __name__ == "__main__":
    run("tenant", Settings, bootstrap, migrations)
