"""Pages that people look at: `run` for a training run, `study` for a patient's study."""
