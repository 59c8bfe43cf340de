"""ich3d: hemorrhage labels for every slice of a head CT, from the whole study."""

__version__ = "0.1.0"
