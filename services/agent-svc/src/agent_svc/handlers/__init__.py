"""What agent-svc does: commands, the publishing of its catalogue, and the read model of connections."""
