"""Ablations: rows that each change a part of one config, trained and compared on the same folds."""
