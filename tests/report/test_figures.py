"""Figures as images inside a page."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ich3d.core.labels import LABELS, STAGES
from ich3d.evaluation.table import compare
from ich3d.report.drawing import EmbeddedImage
from ich3d.report.figures import (
    THUMBNAIL_PX,
    forest_plot,
    grey_png,
    learning_curves,
    probability_curves,
)
from ich3d.report.run.example_series import ExampleSeries
from tests.helpers.scores import scores, thirty_patients


def decode(image: EmbeddedImage) -> bytes:
    return base64.b64decode(image.src.partition(",")[2], validate=True)


@pytest.fixture
def series() -> ExampleSeries:
    """Five slices, of which two have a subdural bleed."""
    target = np.zeros((5, len(LABELS)))
    target[2:4, [LABELS.index("subdural"), LABELS.index("any")]] = 1
    prob = np.full((5, len(LABELS)), 0.25)
    return ExampleSeries("a", 0, 5.0 * np.arange(5), target, dict.fromkeys(STAGES, prob))


def test_a_grey_image_keeps_its_values_and_its_shape() -> None:
    grey = np.zeros((2 * THUMBNAIL_PX, THUMBNAIL_PX), dtype=np.float32)
    grey[:, THUMBNAIL_PX // 2 :] = 1.0
    image = grey_png(grey, "half white")
    pixels = np.asarray(Image.open(BytesIO(decode(image))))
    assert image.src.startswith("data:image/png;base64,")
    assert image.alt == "half white"
    assert pixels.shape == (THUMBNAIL_PX, THUMBNAIL_PX // 2)
    assert pixels[:, 0].max() == 0
    assert pixels[:, -1].min() == 255


def test_the_forest_plot_describes_every_row() -> None:
    truth = thirty_patients()
    rows = compare({"encoder": scores(truth, 1.0), "stack": scores(truth, 3.0)}, {}, truth, 20, 0)
    image = forest_plot(rows)
    for row in rows:
        assert f"{row.name} {row.weighted_log_loss}" in image.alt
    assert decode(image).startswith(b"<?xml")
    assert forest_plot(rows) == image


def test_probability_curves_show_any_and_the_subtypes_that_occur(series: ExampleSeries) -> None:
    image = probability_curves(series)
    assert image.alt.endswith("shaded: any, subdural.")
    assert probability_curves(series) == image


def test_learning_curves_name_the_epoch_that_was_kept() -> None:
    history = [
        {"epoch": epoch, "loss": 0.5, "inner_loss": loss, "is_kept": epoch == 1}
        for epoch, loss in enumerate((0.4, 0.3, 0.35))
    ]
    image = learning_curves("context", {0: history, 2: history})
    assert image.alt.endswith("fold 0 0.3000 in epoch 2, fold 2 0.3000 in epoch 2.")
