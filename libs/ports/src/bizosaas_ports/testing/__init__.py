"""One suite per port, run against the version in memory and every real adapter."""
