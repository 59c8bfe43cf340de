"""Time and memory beside peers, in the same run."""
