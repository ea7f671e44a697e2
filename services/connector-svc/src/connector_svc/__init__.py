"""connector-svc: connections to external systems, their OAuth flows, and every call made through them."""
