"""What each stage, and each kind of sequence context, is worth: rows over shared folds, with controls."""

from ich3d.ablate.run import ablate, rebuild

__all__ = ["ablate", "rebuild"]
