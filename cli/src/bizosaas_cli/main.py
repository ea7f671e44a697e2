"""The command `bizos`; each group of commands is one file."""

import typer

from . import audit, demo, keys, schemas, status, up

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
for group in (up, demo, status, audit, schemas, keys):
    group.register(app)
