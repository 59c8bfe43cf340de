"""The explanation of a slice: parts that add up to the logits of all folds, and a heat map."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import torch

from ich3d.config.schema import StackConfig
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS, label_index
from ich3d.core.metrics import logit
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.explain.explanation import explain, explain_slices, pick_slice
from ich3d.inference.scoring import SeriesPrediction, predict_one
from ich3d.model.folder import Model
from ich3d.stack.booster import Stacker, fit_stacker
from tests.helpers.stack_rows import predictable_rows

ANY = label_index("any")
N_SLICES = 9


@pytest.fixture(scope="module")
def amplified(model: Model) -> Model:
    """The small run's model with larger last layers, so that slices differ in their scores."""
    amplified = deepcopy(model)
    slices = replace(model.config.slices, batch_size=N_SLICES)
    with torch.no_grad():
        for fold_model in amplified.fold_models:
            encoders: Any = fold_model.encoder.members
            contexts: Any = fold_model.context.members
            for encoder in encoders:
                encoder.head.weight.mul_(30)
            for context in contexts:
                context.correction_head.weight.mul_(100)
    return replace(amplified, config=replace(model.config, slices=slices))


@pytest.fixture(scope="module")
def prediction(
    amplified: Model,
    make_head: Callable[..., SeriesToWrite],
    tmp_path_factory: pytest.TempPathFactory,
) -> SeriesPrediction:
    """A predicted series of nine slices, 5 mm apart."""
    folder = tmp_path_factory.mktemp("head")
    write_series(make_head("a", n=N_SLICES), folder)
    (prediction,) = predict_one(amplified, folder, None).series
    return prediction


@pytest.fixture(scope="module")
def stacker() -> Stacker:
    """A stacker for which the context score 5 mm below decides each label; the run keeps none."""
    return fit_stacker(predictable_rows(), StackConfig(num_trees=40), seed=0)


# The stacker's parts


def test_stacker_parts_add_up_to_the_logit_before_calibration(
    amplified: Model, prediction: SeriesPrediction, stacker: Stacker
) -> None:
    """The second fold has no stacker and gives its context logit alone."""
    first, second, third = amplified.fold_models
    with_stackers = [
        replace(first, stacker=stacker),
        replace(second, stacker=Stacker.empty()),
        replace(third, stacker=stacker),
    ]
    mixed, series = replace(amplified, fold_models=with_stackers), prediction.series
    outputs = mixed.stage_outputs(series.hu, series.z_mm, series.hu_features)

    for index, label in ((0, "any"), (4, "subdural"), (8, "epidural")):
        k, label_stacker = label_index(label), stacker.by_label[label]
        logits = [logit(output.prob["context"][index, k]) for output in outputs]
        for fold in (0, 2):
            row = outputs[fold].features.iloc[[index]][list(label_stacker.columns)]
            trees = lgb.Booster(model_str=label_stacker.trees).predict(row, raw_score=True)
            assert label_stacker.blend is not None
            start = label_stacker.blend.logits(label, outputs[fold].features.iloc[[index]])
            logits[fold] = start[0] + np.asarray(trees)[0]

        explanation = explain(mixed, prediction, index, label)
        total = explanation.stacker["contribution"].sum()
        assert total == pytest.approx(np.mean(logits), abs=1e-6)
        assert explanation.folds == (0, 1, 2)
        assert explanation.kept == (0, 2)


def test_the_neighbour_that_decides_the_label_contributes_most(
    amplified: Model, prediction: SeriesPrediction, stacker: Stacker
) -> None:
    fold_model = replace(amplified.fold_models[0], stacker=stacker)
    one_fold = replace(amplified, fold_models=[fold_model])
    tables = [explain(one_fold, prediction, index, "subdural").stacker for index in (2, 4, 6)]
    parts = pd.concat(tables).assign(size=lambda table: table["contribution"].abs())
    sizes = parts[parts["what"] != "start"].groupby(["what", "offset_mm"], dropna=False)["size"]
    assert sizes.sum().idxmax() == ("neighbour", -5.0)

    offsets_mm = tables[0].loc[tables[0]["what"] == "neighbour", "offset_mm"]
    assert offsets_mm.tolist() == [-15.0, -10.0, -5.0, 5.0, 10.0, 15.0]
    kinds = {"start", "average", "own", "neighbour", "near", "series", "place"}
    assert set(tables[0]["what"]) == kinds


def test_without_a_stacker_the_context_logit_is_all(
    amplified: Model, prediction: SeriesPrediction
) -> None:
    without = [replace(fold, stacker=Stacker.empty()) for fold in amplified.fold_models]
    explanation = explain(replace(amplified, fold_models=without), prediction, 3, "any")
    assert explanation.kept == ()
    assert explanation.stacker["what"].tolist() == ["start"]
    context_logit = explanation.context["contribution"].sum()
    assert explanation.stacker["contribution"].sum() == pytest.approx(context_logit, abs=5e-3)


# The context model's parts


def test_context_parts_are_the_mean_over_folds(
    amplified: Model, prediction: SeriesPrediction
) -> None:
    series, z_mm = prediction.series, prediction.series.z_mm
    outputs = amplified.stage_outputs(series.hu, z_mm, series.hu_features)
    logits = [logit(output.prob["context"])[2, ANY] for output in outputs]

    table = explain(amplified, prediction, 2, "any").context
    assert table["contribution"].sum() == pytest.approx(np.mean(logits), abs=1e-3)
    assert table["what"].tolist() == ["baseline", *["slice"] * N_SLICES]
    assert table["slice_index"].tolist()[1:] == list(range(N_SLICES))
    np.testing.assert_allclose(table["offset_mm"][1:], z_mm - z_mm[2])
    assert (table["contribution"].abs() > 1e-6).sum() > 2  # neighbours contribute too


def test_a_single_slice_has_no_neighbours(
    amplified: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("one", n=1), tmp_path)
    (prediction,) = predict_one(amplified, tmp_path, None).series
    explanation = explain(amplified, prediction, 0, "any")
    assert explanation.context["what"].tolist() == ["baseline", "slice"]
    assert np.isfinite(explanation.context["contribution"]).all()


# The heat map


def likely(prediction: SeriesPrediction) -> SeriesPrediction:
    """The same series, in which every label is likely to all stages; the ranks stay."""
    prob = {stage: (1 + scores) / 2 for stage, scores in prediction.prob.items()}
    return replace(prediction, prob=prob)


def test_heat_maps_of_a_series_have_one_scale(
    amplified: Model, prediction: SeriesPrediction
) -> None:
    strongest = int(prediction.prob["encoder"][:, ANY].argmax())
    pairs = [(index, "any") for index in range(N_SLICES)] + [(4, "subdural"), (4, "epidural")]
    explanations = explain_slices(amplified, likely(prediction), pairs)
    heats = [explanation.heat for explanation in explanations]
    for heat in heats:
        assert heat.shape == prediction.series.hu[4].shape
        assert heat.dtype == np.float32
        assert heat.min() >= 0
        assert heat.max() <= 1
    assert heats[strongest].max() == 1
    assert min(heat.max() for heat in heats[:N_SLICES]) < 1


def test_there_is_no_heat_in_air(amplified: Model, prediction: SeriesPrediction) -> None:
    strongest = int(prediction.prob["encoder"][:, ANY].argmax())
    heat = explain(amplified, likely(prediction), strongest, "any").heat
    is_air = prediction.series.hu[strongest] < -500
    assert is_air.any()
    assert not heat[is_air].any()
    assert heat.any()


@pytest.mark.parametrize("stage", ["encoder", "stack"])
@pytest.mark.parametrize(("prob", "is_shown"), [(0.09, False), (0.11, True)])
def test_there_is_no_heat_map_where_the_probability_is_low(
    amplified: Model, prediction: SeriesPrediction, prob: float, is_shown: bool, stage: str
) -> None:
    scored = likely(prediction)
    strongest = int(prediction.prob["encoder"][:, ANY].argmax())
    scored.prob[stage][strongest] = prob
    scored.prob["encoder"][:strongest] = scored.prob["encoder"][strongest + 1 :] = 0.0
    assert explain(amplified, scored, strongest, "any").heat.any() == is_shown


def test_an_encoder_that_sees_no_sign_has_an_empty_heat_map(
    amplified: Model, prediction: SeriesPrediction
) -> None:
    blind = deepcopy(amplified)
    with torch.no_grad():
        for fold_model in blind.fold_models:
            encoders: Any = fold_model.encoder.members
            for encoder in encoders:
                encoder.head.weight.abs_().neg_()  # features are never negative
    assert not explain(blind, likely(prediction), 4, "any").heat.any()


# Which slices are explained


def test_slices_explained_together_are_explained_as_alone(
    amplified: Model, prediction: SeriesPrediction
) -> None:
    pairs = [(3, "any"), (5, "subdural")]
    explanations = explain_slices(amplified, prediction, pairs)
    for together, (index, label) in zip(explanations, pairs, strict=True):
        alone = explain(amplified, prediction, index, label)
        assert (together.slice_index, together.label) == (index, label)
        assert together.sop_uid == prediction.series.keys[index].sop_uid
        assert together.prob == alone.prob == prediction.prob["stack"][index, label_index(label)]
        pd.testing.assert_frame_equal(together.context, alone.context)
        pd.testing.assert_frame_equal(together.stacker, alone.stacker)
        np.testing.assert_allclose(together.heat, alone.heat, atol=1e-6)


def test_the_slice_of_the_highest_stack_score_is_the_default(prediction: SeriesPrediction) -> None:
    for k, label in enumerate(LABELS):
        assert pick_slice(prediction, None, label) == prediction.prob["stack"][:, k].argmax()


def test_a_slice_is_named_by_its_uid_or_index(prediction: SeriesPrediction) -> None:
    for index, key in enumerate(prediction.series.keys):
        assert pick_slice(prediction, key.sop_uid, "any") == index
        assert pick_slice(prediction, str(index), "any") == index


@pytest.mark.parametrize("name", ["9", "-1", "1.2.3", ""])
def test_a_slice_that_does_not_exist_is_refused(prediction: SeriesPrediction, name: str) -> None:
    with pytest.raises(DataError, match="give 0 to 8"):
        pick_slice(prediction, name, "any")


def test_a_uid_of_several_frames_is_refused(prediction: SeriesPrediction) -> None:
    keys = [
        key._replace(sop_uid="1.2.3") if index < 2 else key
        for index, key in enumerate(prediction.series.keys)
    ]
    of_frames = replace(prediction, series=replace(prediction.series, keys=tuple(keys)))
    with pytest.raises(DataError, match="slices 0 to 1"):
        pick_slice(of_frames, "1.2.3", "any")


def test_an_unknown_slice_or_label_is_not_explained(
    amplified: Model, prediction: SeriesPrediction
) -> None:
    with pytest.raises(DataError, match="slices 0 to 8"):
        explain(amplified, prediction, 9, "any")
    with pytest.raises(DataError, match="did you mean 'subdural'"):
        explain(amplified, prediction, 0, "subdurl")
