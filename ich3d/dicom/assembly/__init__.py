"""From slice headers to ordered series."""
