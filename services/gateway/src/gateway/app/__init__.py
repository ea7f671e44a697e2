"""How the gateway is put together and run."""
