"""The agent catalogue, agent runs under CrewAI, and the tool gate."""
