"""HTML pages: `run` reports a training run, `study` reports the scores of one patient's study."""
