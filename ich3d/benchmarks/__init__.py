"""Benchmarks of time and memory. Each runs the alternatives to ich3d's code in the same run."""
