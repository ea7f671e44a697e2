"""What the services ask of the outside world: one Protocol per file, with in-memory versions and one suite per port."""
