"""What secret-svc is connected to: an encrypted file and the environment, or Vault."""
