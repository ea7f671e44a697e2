"""What a secret is and what is decided about it: references and fingerprints, never a value. Pure."""
