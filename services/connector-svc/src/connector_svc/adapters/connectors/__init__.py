"""The connectors: one file each, found by itself. A leading underscore marks shared machinery."""
