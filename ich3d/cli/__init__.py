"""The `ich3d` command."""
