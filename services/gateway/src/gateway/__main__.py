"""Run the gateway: `python -m gateway`."""

from .app.server import run

if __name__ == "__main__":
    run()
