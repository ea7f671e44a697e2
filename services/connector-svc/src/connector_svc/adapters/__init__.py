"""What connector-svc is connected to: vendors over HTTP, secret-svc over the bus, its own tables, Redis."""
