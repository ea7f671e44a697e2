"""Exit with 0 when this container's service answers 200 at the path given, 1 otherwise: the image's health check."""

import os
import sys
import urllib.request


def main() -> int:
    """Ask on the port the service itself was told to serve: the gateway's own, else the health port of a worker."""
    port = os.environ.get("BIZOS_HTTP_PORT") or os.environ["BIZOS_HEALTH_PORT"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{sys.argv[1]}", timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as unreachable:  # URLError and HTTPError are OSErrors
        print(f"{sys.argv[1]} on port {port}: {unreachable}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
