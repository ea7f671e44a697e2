"""Run audit-svc: `python -m audit_svc`."""

from bizosaas_runtime.worker import run

from .adapters import migrations
from .app.bootstrap import bootstrap
from .app.settings import Settings

if __name__ == "__main__":
    run("audit", Settings, bootstrap, migrations)
