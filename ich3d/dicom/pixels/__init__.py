"""From a frame to its HU."""
