"""The workflows, one per file, found by walking this package; a leading underscore is shared machinery."""
