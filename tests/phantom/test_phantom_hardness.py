"""Counting bright voxels does not solve the phantom."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, binary_fill_holes
from sklearn.metrics import roc_auc_score

from ich3d.config.schema import PhantomConfig
from ich3d.core.labels import SUBTYPES
from ich3d.core.seeds import stream
from ich3d.phantom.scanner import add_noise, expose
from ich3d.phantom.study import VISIBLE_MM2, draw_plan


def bright_mm2(hu: np.ndarray, pixel_mm: float) -> float:
    """Area of 50 to 90 HU inside the skull of one slice."""
    bone = hu > 150
    inside = binary_erosion(binary_fill_holes(bone) & ~bone)
    return float(((hu >= 50) & (hu <= 90) & inside).sum() * pixel_mm**2)


@pytest.mark.slow
@pytest.mark.parametrize("prevalence", [{}, dict.fromkeys(SUBTYPES, 0.25)], ids=["rsna", "flat"])
def test_voxel_counting_stays_under_085(prevalence: dict[str, float]) -> None:
    config = PhantomConfig(matrix=128, prevalence=prevalence)
    counts, labels = [], []
    for study in range(60):
        rng = stream(0, "phantom", study)
        plan = draw_plan(config, rng)
        exposure = expose(plan.head, (*plan.bleeds, *plan.lookalikes), plan.geometry, plan.optics)
        hu = add_noise(exposure.hu, plan.geometry, plan.optics, rng)
        counts += [bright_mm2(image, plan.geometry.pixel_mm) for image in hu]
        blood = exposure.area_mm2[: len(plan.bleeds)]
        labels += list(
            (blood >= VISIBLE_MM2).any(axis=0) if len(blood) else np.zeros(len(hu), bool)
        )
    assert roc_auc_score(labels, counts) <= 0.85
