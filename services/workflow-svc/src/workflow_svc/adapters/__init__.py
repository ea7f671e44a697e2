"""What workflow-svc is connected to: Temporal, and through its activities the other services."""
