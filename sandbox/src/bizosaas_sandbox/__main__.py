"""Serve one stand-in on loopback: python -m bizosaas_sandbox wordpress --port 8090."""

import argparse
import importlib
import json
import pkgutil
from pathlib import Path

import uvicorn

from bizosaas_sandbox import providers


def main() -> None:
    known = sorted(module.name for module in pkgutil.iter_modules(providers.__path__) if module.name[0] != "_")
    parser = argparse.ArgumentParser(prog="python -m bizosaas_sandbox", description=__doc__)
    parser.add_argument("provider", choices=known)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, help="folder to keep its state in; without one it forgets")
    chosen = parser.parse_args()
    provider = importlib.import_module(f"{providers.__name__}.{chosen.provider}")
    if chosen.data:
        chosen.data.mkdir(parents=True, exist_ok=True)
    app = provider.create_app(chosen.data)
    print(json.dumps({"url": f"http://127.0.0.1:{chosen.port}", **provider.CREDENTIALS}), flush=True)
    uvicorn.run(app, host="127.0.0.1", port=chosen.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
