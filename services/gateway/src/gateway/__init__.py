"""The HTTP edge: commands in, read models and event streams out."""
