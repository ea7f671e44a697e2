"""Run workflow-svc: `python -m workflow_svc`."""

from bizosaas_runtime.worker import run

from .app.bootstrap import bootstrap
from .app.settings import Settings

if __name__ == "__main__":
    run("workflow", Settings, bootstrap)
