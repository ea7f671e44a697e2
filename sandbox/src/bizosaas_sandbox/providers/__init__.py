"""Stateful stand-ins for other companies' systems, one module each.

A module offers `create_app(data)`, an ASGI application that keeps its state in that folder (in memory without one),
and `CREDENTIALS`, what one signs in with. `python -m bizosaas_sandbox <module>` serves it.
"""
