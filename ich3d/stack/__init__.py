"""The stacker: LightGBM for each label on top of the context score, kept only where it helps."""
