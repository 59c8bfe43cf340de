"""Recalibrations that a test chooses."""

from ich3d.core.labels import LABELS
from ich3d.model.recalibration import LabelRecalibration, Recalibration


def recalibration_of(**scale_and_shift: tuple[float, float]) -> Recalibration:
    """A recalibration on 12 patients that keeps these labels, each with its scale and shift."""
    by_label = {
        label: LabelRecalibration(
            label in scale_and_shift, *scale_and_shift.get(label, (1.0, 0.0)), 0.3, 0.2, 0.05
        )
        for label in LABELS
    }
    return Recalibration(by_label, 12, "patient", 300, "0a")
