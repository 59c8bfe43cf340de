"""The picture of a series shows its slices in order, each in a frame that tells its probability."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ich3d.inference.run import predict_to_folder
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.folder import Model
from ich3d.prepare.contact_sheet import slice_image
from ich3d.report.study.preview import (
    MAX_WIDTH,
    MIN_WIDTH,
    draw_preview,
    frame_colour,
    preview_writer,
)
from tests.helpers.identity import PATIENT_ID
from tests.helpers.predictions import CALM, with_bleeds


def repeated(prediction: SeriesPrediction, count: int) -> SeriesPrediction:
    """A series of `count` slices: those of `prediction`, again and again."""
    series = prediction.series
    index = np.arange(count) % len(series)
    longer = replace(
        series,
        z_mm=5.0 * np.arange(count),
        keys=tuple(series.keys[i] for i in index),
        slice_hashes=tuple(series.slice_hashes[i] for i in index),
        hu_features=series.hu_features[index],
        hu=series.hu[index],
    )
    prob = {stage: values[index] for stage, values in prediction.prob.items()}
    return replace(prediction, series=longer, prob=prob)


def count_of(picture: Image.Image, prob: float) -> int:
    """How many pixels of a picture have the colour of a probability."""
    return int((np.asarray(picture) == frame_colour(prob)).all(axis=-1).sum())


def test_frames_tell_the_probability(scored: SeriesPrediction, model: Model) -> None:
    calm = draw_preview(with_bleeds(scored), model)
    bleeding = draw_preview(with_bleeds(scored, (3, "subdural", 0.75)), model)
    a_frame = count_of(bleeding, 0.75) - count_of(calm, 0.75)
    assert a_frame > 500
    assert count_of(calm, CALM) - count_of(bleeding, CALM) == a_frame


def test_slices_stand_in_order(scored: SeriesPrediction, model: Model) -> None:
    picture = np.asarray(draw_preview(with_bleeds(scored), model))
    grey = picture[..., 0]
    side = 256
    corners = []
    for hu in scored.series.hu[:4]:
        tile = np.asarray(slice_image(hu, "brain", side))
        windows = np.lib.stride_tricks.sliding_window_view(grey, (1, side))[:, :, 0]
        middle = (windows == tile[side // 2]).all(axis=-1)
        assert middle.any()
        row, column = np.argwhere(middle)[0]
        corners.append((row, column))
    assert corners == sorted(corners)


@pytest.mark.parametrize("count", [1, 3, 60, 300])
def test_a_series_of_any_length_fits(scored: SeriesPrediction, model: Model, count: int) -> None:
    width, height = draw_preview(repeated(with_bleeds(scored), count), model).size
    assert MIN_WIDTH <= width <= max(MAX_WIDTH, 120 * int(np.ceil(np.sqrt(1.5 * count))))
    assert height < 1.5 * width


def test_what_makes_a_score_doubtful_is_told(scored: SeriesPrediction, model: Model) -> None:
    plain = draw_preview(replace(scored, is_known_patient=False), model)
    known = draw_preview(replace(scored, is_known_patient=True), model)
    assert known.height > plain.height


def test_predict_writes_a_picture_of_each_series_and_names_no_patient(
    model: Model, head: Path, scored: SeriesPrediction, tmp_path: Path
) -> None:
    writers = {"preview": preview_writer(tmp_path / "out" / "preview", model)}
    predict_to_folder(model, head, tmp_path / "out", writers=writers)
    (path,) = (tmp_path / "out" / "preview").iterdir()
    assert path.name == f"{scored.series.volume_id}.png"
    assert PATIENT_ID.encode() not in path.read_bytes()
    with Image.open(path) as picture:
        assert picture.info == {}
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(draw_preview(scored, model)))
