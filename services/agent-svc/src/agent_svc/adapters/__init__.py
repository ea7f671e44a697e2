"""What agent-svc is connected to: its catalogue and ledger, the tool gate's connector-svc, models, and CrewAI."""
