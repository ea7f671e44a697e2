"""The command `bizos`; each group of commands is one file."""

import typer

from . import __doc__ as purpose
from . import audit, demo, dlq, keys, projections, replay, schemas, status, streams, up

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=purpose)
for group in (up, demo, status, streams, dlq, projections, audit, replay, schemas, keys):
    group.register(app)
