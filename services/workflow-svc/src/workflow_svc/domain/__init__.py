"""Which workflows run and which approvals they wait for. Pure."""
