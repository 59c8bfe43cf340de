"""Studies in, tables out."""
