"""What connector-svc does: commands, reactions and questions."""
