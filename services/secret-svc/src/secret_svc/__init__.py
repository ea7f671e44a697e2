"""The only service that reads or writes credentials."""
