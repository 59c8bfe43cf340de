"""The stacker: LightGBM per label on top of the context score, kept only where it helps."""
