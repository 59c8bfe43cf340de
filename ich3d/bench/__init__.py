"""What ich3d costs in time and memory, beside the libraries that do the same."""
