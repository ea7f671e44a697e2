"""Run secret-svc: `python -m secret_svc`."""

from bizosaas_runtime.worker import run

from .app.bootstrap import bootstrap
from .app.settings import Settings

if __name__ == "__main__":
    run("secret", Settings, bootstrap)
