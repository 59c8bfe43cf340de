"""The page of a training run: what was run, what each stage gains, how training went."""
