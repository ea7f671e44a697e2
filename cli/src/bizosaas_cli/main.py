"""The command `bizos`; each group of commands is one file."""

import typer

from . import audit, demo, keys, replay, schemas, status, streams, up

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
for group in (up, demo, status, streams, audit, replay, schemas, keys):
    group.register(app)
