"""What HU say of a slice: of drawn heads, and of phantoms whose blood is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from ich3d.config.schema import PhantomConfig, PrepareConfig
from ich3d.core.labels import SUBTYPES
from ich3d.core.types import PreparedSeries, Volume
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.phantom import write_phantoms
from ich3d.prepare.hu_features import (
    BRAIN_CM2,
    HU_FEATURES,
    NO_BRAIN_PROB,
    coarsening,
    hu_features,
    shows_brain,
    silenced,
    silenced_logits,
)
from ich3d.prepare.intracranial import intracranial_mask
from ich3d.prepare.series import prepare_series
from tests.helpers.drawn_head import AIR_HU, drawn_slice, plane, with_noise
from tests.helpers.slow_intracranial import slow_mask

PIXEL_MM = 1.2
WHERE = plane(pixel_mm=PIXEL_MM)
HEAD = drawn_slice(WHERE)
BLOOD_HU = 65


def features_of(hu: np.ndarray) -> dict[str, float]:
    """The features of one slice by name."""
    (row,) = hu_features(with_noise(hu, 2.0)[None], PIXEL_MM)
    return dict(zip(HU_FEATURES, row.tolist(), strict=True))


def with_blood(radius_mm: float, y_mm: float = 0.0, x_mm: float = 0.0) -> np.ndarray:
    """The head with a disc of blood."""
    return np.where(WHERE.disc(radius_mm, y_mm, x_mm), BLOOD_HU, HEAD).astype(np.int16)


def test_brain_without_blood_is_not_dense() -> None:
    features = features_of(HEAD)
    assert features["median_hu"] == pytest.approx(32, abs=1)
    assert features["dense_deep_cm2"] + features["dense_rim_cm2"] < 0.5
    assert abs(features["p99_hu"]) < 10
    assert features["dense_posterior_mm"] == features["dense_depth_mm"] == 0


@pytest.mark.parametrize("radius_mm", [6.0, 12.0, 25.0])
def test_deep_blood_has_its_area(radius_mm: float) -> None:
    features = features_of(with_blood(radius_mm, x_mm=20))
    area_cm2 = np.pi * radius_mm**2 / 100
    assert features["dense_deep_cm2"] == pytest.approx(area_cm2, rel=0.15)
    assert features["very_dense_deep_cm2"] == pytest.approx(area_cm2, rel=0.35)
    assert features["largest_deep_cm2"] == pytest.approx(features["dense_deep_cm2"], rel=0.05)
    assert features["dense_rim_cm2"] < 0.5


def test_a_crescent_along_the_skull_is_in_the_rim() -> None:
    crescent = WHERE.disc(65) & ~WHERE.disc(65, x_mm=-6)
    features = features_of(np.where(crescent, BLOOD_HU, HEAD).astype(np.int16))
    assert features["dense_rim_cm2"] > 3
    assert features["dense_rim_cm2"] > 5 * features["dense_deep_cm2"]


def test_blood_on_one_side_is_told_from_blood_on_both() -> None:
    one = features_of(with_blood(10, x_mm=25))
    left_and_right = WHERE.disc(10, x_mm=25) | WHERE.disc(10, x_mm=-25)
    both = features_of(np.where(left_and_right, BLOOD_HU, HEAD).astype(np.int16))
    assert one["dense_side_cm2"] == pytest.approx(np.pi, rel=0.2)
    assert both["dense_side_cm2"] < 0.3
    assert one["mean_side_hu"] > 3 * both["mean_side_hu"]


def test_where_blood_lies_is_in_millimetres() -> None:
    features = features_of(with_blood(10, y_mm=30))
    assert features["dense_posterior_mm"] == pytest.approx(30, abs=2)
    assert features["dense_depth_mm"] == pytest.approx(65 - 30, abs=4)


def test_a_small_spot_is_seen_under_a_small_disc() -> None:
    features = features_of(with_blood(4))
    assert features["small_blob_hu"] > 1.5 * features["large_blob_hu"]
    assert features["small_blob_hu"] > 10


@given(st.floats(-8, 8), st.integers(0, 50))
def test_a_scanner_that_is_off_by_a_few_hu_changes_the_median_alone(
    offset_hu: float, seed: int
) -> None:
    hu = with_noise(with_blood(12, x_mm=20), 2.0, seed)[None]
    plain, offset = hu_features(hu, PIXEL_MM), hu_features(hu + np.int16(offset_hu), PIXEL_MM)
    moved = HU_FEATURES.index("median_hu")
    assert offset[0, moved] - plain[0, moved] == pytest.approx(int(offset_hu), abs=0.01)
    rest = np.delete(np.arange(len(HU_FEATURES)), moved)
    np.testing.assert_allclose(offset[0, rest], plain[0, rest], rtol=0.02, atol=0.1)


def test_a_slice_without_brain_has_an_area_alone() -> None:
    (row,) = hu_features(np.full((1, 64, 64), AIR_HU, dtype=np.int16), 3.6)
    assert row[BRAIN_CM2] == 0
    assert np.isnan(np.delete(row, BRAIN_CM2)).all()
    assert hu_features(np.empty((0, 64, 64), dtype=np.int16), 3.6).shape == (0, len(HU_FEATURES))


def test_slices_without_brain_are_silenced_whatever_a_model_says() -> None:
    hu = np.stack([HEAD, np.full_like(HEAD, AIR_HU)])
    features = hu_features(hu, PIXEL_MM)
    assert shows_brain(features).tolist() == [True, False]
    prob = silenced(np.full((2, 6), 0.9, dtype=np.float32), features)
    assert prob.dtype == np.float32
    np.testing.assert_allclose(prob, [[0.9] * 6, [NO_BRAIN_PROB] * 6], rtol=1e-6)
    logits = silenced_logits(np.full((2, 6), 3.0, dtype=np.float32), features)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[1])), NO_BRAIN_PROB, rtol=1e-5)
    assert (logits[0] == 3).all()


# Phantoms


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[PreparedSeries], pd.DataFrame]:
    """Eight phantoms, of which most bleed, and the area of their blood by SOPInstanceUID."""
    folder = tmp_path_factory.mktemp("phantoms")
    config = PhantomConfig(studies=8, matrix=128, prevalence=dict.fromkeys(SUBTYPES, 0.4))
    assert len(list(write_phantoms(config, 5, folder))) == 8
    truth = pd.read_csv(folder / "truth.csv", dtype={"sop_uid": str}).set_index("sop_uid")
    grid = PrepareConfig(matrix=96, pixel_mm=2.3)
    prepared = []
    for series in index(folder).series:
        volume = load_volume(series)
        assert isinstance(volume, Volume)
        one = prepare_series(volume, grid)
        assert isinstance(one, PreparedSeries)
        prepared.append(one)
    return prepared, truth


def test_no_bleeding_slice_of_a_phantom_counts_as_without_brain(
    phantoms: tuple[list[PreparedSeries], pd.DataFrame],
) -> None:
    prepared, truth = phantoms
    n_bleeding = 0
    for series in prepared:
        blood_mm2 = truth.loc[[key.sop_uid for key in series.keys], AREAS].max(axis=1).to_numpy()
        bleeds = blood_mm2 >= 10
        assert shows_brain(series.hu_features)[bleeds].all()
        n_bleeding += bleeds.sum()
    assert n_bleeding > 50


def test_the_fast_way_finds_the_same_inside_of_the_skull_in_phantoms(
    phantoms: tuple[list[PreparedSeries], pd.DataFrame],
) -> None:
    for series in phantoms[0][:4]:
        masks = np.stack([intracranial_mask(hu, 2.3) for hu in series.hu])
        np.testing.assert_array_equal(masks, [slow_mask(hu, 2.3) for hu in series.hu])
        areas = masks.sum(axis=(1, 2)) * np.float32(2.3**2 / 100)
        np.testing.assert_allclose(series.hu_features[:, BRAIN_CM2], areas, rtol=1e-6)


def test_slices_with_more_blood_are_denser(
    phantoms: tuple[list[PreparedSeries], pd.DataFrame],
) -> None:
    """Blood in brain and ventricles: its area and the dense area go together."""
    prepared, truth = phantoms
    blood_mm2, dense_cm2 = [], []
    for series in prepared:
        rows = truth.loc[[key.sop_uid for key in series.keys]]
        blood_mm2 += rows[["intraparenchymal_mm2", "intraventricular_mm2"]].sum(axis=1).tolist()
        dense_cm2 += series.hu_features[:, HU_FEATURES.index("dense_deep_cm2")].tolist()
    blood, dense = np.array(blood_mm2), np.nan_to_num(dense_cm2)
    assert spearmanr(blood, dense).statistic > 0.5
    much = blood > 300
    assert much.sum() > 5
    assert (dense[much] > 0.5).mean() > 0.8


AREAS = [f"{name}_mm2" for name in SUBTYPES]


def test_a_finer_grid_is_averaged_and_tells_the_same() -> None:
    """Each pixel repeated twice a side on a grid of half the size; a last row of air is cut."""
    coarse = with_noise(with_blood(12.0), 2.0)[None]
    fine = coarse.repeat(2, axis=1).repeat(2, axis=2)
    fine = np.pad(fine, ((0, 0), (0, 1), (0, 1)), constant_values=AIR_HU)
    assert hu_features(fine, PIXEL_MM / 2) == pytest.approx(hu_features(coarse, PIXEL_MM))


@pytest.mark.parametrize(
    ("pixel_mm", "step"), [(0.4, 3), (0.6, 2), (0.65, 2), (0.8, 1), (1.2, 1), (3.0, 1)]
)
def test_pixels_are_averaged_up_to_1_3_mm(pixel_mm: float, step: int) -> None:
    assert coarsening(pixel_mm) == step


@given(st.integers(1, 6), st.integers(0, 5))
def test_a_slice_counts_alone_as_in_its_series(n: int, index: int) -> None:
    where = plane(64, 3.6)
    hu = np.stack([with_noise(drawn_slice(where, 40 + 5 * i), seed=i) for i in range(n)])
    index = min(index, n - 1)
    features = hu_features(hu, 3.6)
    np.testing.assert_array_equal(hu_features(hu[index : index + 1], 3.6)[0], features[index])


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hu = np.stack([with_noise(drawn_slice(plane(96, 2.4)), seed=seed) for seed in range(12)])
    features = []
    for threads in ("1", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        features.append(hu_features(hu, 2.4))
    np.testing.assert_array_equal(features[0], features[1])
