"""The parts of an explanation add up to what they explain, and are found where the answer is known."""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from ich3d.cli.parser import main
from ich3d.config.root import Config
from ich3d.config.schema import ENCODERS, ContextConfig, SlicesConfig, StackConfig
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import ContextInput
from ich3d.context.geometry import geometry
from ich3d.context.train import score_context
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit
from ich3d.core.workspace import Workspace
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.explain.explanation import explain, explain_slices, pick_slice
from ich3d.explain.grad_cam import heat_maps
from ich3d.explain.integrated_gradients import context_parts
from ich3d.inference.scoring import SeriesPrediction, predict_one
from ich3d.model.fold_model import stack_features
from ich3d.model.folder import Model, load_model
from ich3d.report.explanation import stacker_clause, summary_sentence
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.stack.booster import LabelStack, StackRows, fit_stack

ANY = LABELS.index("any")
WIDTH = 12  # of embeddings
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    """The tiny run's model, its last layers amplified, so that slices differ as after long training."""
    loaded = load_model(model_folder)
    config = replace(loaded.config, slices=replace(loaded.config.slices, batch_size=9))
    made = replace(loaded, config=config)
    with torch.no_grad():
        for fold_model in made.fold_models:
            fold_model.encoder.members[0].head.weight.mul_(30)
            for member in fold_model.context.members:
                member.correction_head.weight.mul_(300)
    return made


@pytest.fixture(scope="module")
def head(make_head: Callable[..., SeriesToWrite], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one series of nine slices, 5 mm apart."""
    folder = tmp_path_factory.mktemp("head")
    write_series(make_head("a", n=9), folder)
    return folder


@pytest.fixture(scope="module")
def scored(model: Model, head: Path) -> SeriesPrediction:
    (item,) = predict_one(model, head, None).series
    return item


@pytest.fixture(scope="module")
def stack(model: Model) -> dict[str, LabelStack]:
    """Grown, as the tiny run keeps none, where a label is told by the context score 5 mm below."""
    rng = np.random.default_rng(0)
    groups, z_mm = 24, np.arange(20) * 5.0
    start = rng.uniform(0.02, 0.98, (groups, 20, 6)).astype(np.float32)
    target = (np.roll(start, 1, axis=1) > 0.5).astype(np.float32)
    target[:, 0] = 0
    silent = np.zeros((20, 6), dtype=np.float32)
    features = [
        stack_features(
            ContextInput(silent, silent, geometry(z_mm), np.arange(20)), one, z_mm, model.config
        )
        for one in start
    ]
    rows = StackRows(
        pd.concat(features, ignore_index=True), start.reshape(-1, 6), target.reshape(-1, 6),
        np.repeat([f"p{i}" for i in range(groups)], 20), np.repeat(np.arange(groups) % 3, 20),
    )  # fmt: skip
    return fit_stack(rows, StackConfig(num_trees=40), seed=0)


# The stacker


def test_the_stackers_parts_add_up_to_its_logit_before_calibration(
    model: Model, scored: SeriesPrediction, stack: dict[str, LabelStack]
) -> None:
    """One fold of three keeps no stacker, and gives the context logit alone."""
    first, second, third = model.fold_models
    mixed = replace(
        model, fold_models=[replace(first, stack=stack), second, replace(third, stack=stack)]
    )
    readings = mixed.read(scored.series.hu, scored.series.z_mm)
    for index, label in ((0, "any"), (4, "subdural"), (8, "epidural")):
        k = LABELS.index(label)
        logits = [logit(reading.prob["context"][index, k]) for reading in readings]
        for place in (0, 2):
            row = readings[place].features.iloc[[index]][list(stack[label].columns)]
            trees = lgb.Booster(model_str=stack[label].trees).predict(row, raw_score=True)[0]
            logits[place] = np.round(logits[place], 3) + trees
        found = explain(mixed, scored, index, label)
        assert found.stacker["contribution"].sum() == pytest.approx(np.mean(logits), abs=1e-6)
        assert (found.folds, found.kept) == ((0, 1, 2), (0, 2))
        assert "kept in 2 of 3 folds" in summary_sentence(found)
        parts = found.stacker.groupby("what")["contribution"].sum()
        told = [float(part) for part in re.findall(r"\(([+-][\d.]+)\)", stacker_clause(found))]
        assert told == sorted(parts[parts.abs() >= 0.005].round(2), key=abs, reverse=True)[:4]


def test_the_neighbour_that_tells_the_label_is_found(
    model: Model, scored: SeriesPrediction, stack: dict[str, LabelStack]
) -> None:
    told = replace(model, fold_models=[replace(model.fold_models[0], stack=stack)])
    found = [explain(told, scored, index, "subdural").stacker for index in (2, 4, 6)]
    moved = pd.concat(found).assign(size=lambda rows: rows["contribution"].abs())
    by_kind = (
        moved[moved["what"] != "start"].groupby(["what", "offset_mm"], dropna=False)["size"].sum()
    )
    assert by_kind.idxmax() == ("neighbour", -5.0)
    offsets = found[0].loc[found[0]["what"] == "neighbour", "offset_mm"].tolist()
    assert offsets == [-15.0, -10.0, -5.0, 5.0, 10.0, 15.0]
    assert set(found[0]["what"]) == {
        "start",
        "average",
        "own",
        "neighbour",
        "near",
        "series",
        "place",
    }


def test_a_stacker_that_was_not_kept_adds_nothing_and_says_so(
    model: Model, scored: SeriesPrediction
) -> None:
    found = explain(model, scored, 3, "any")
    assert found.kept == ()
    assert found.stacker["what"].tolist() == ["start"]
    assert found.stacker["contribution"].sum() == pytest.approx(
        found.context["contribution"].sum(), abs=1e-3
    )
    assert "no fold kept a stacker for this label" in summary_sentence(found)
    assert stacker_clause(found) == ""


def test_several_slices_are_explained_as_each_alone(model: Model, scored: SeriesPrediction) -> None:
    asked = [(3, "any"), (5, "subdural")]
    for together, (index, label) in zip(explain_slices(model, scored, asked), asked, strict=True):
        alone = explain(model, scored, index, label)
        assert (together.slice_index, together.label, together.prob) == (index, label, alone.prob)
        pd.testing.assert_frame_equal(together.context, alone.context)
        pd.testing.assert_frame_equal(together.stacker, alone.stacker)
        np.testing.assert_allclose(together.heat, alone.heat, atol=1e-6)


# The context model


def series_of(count: int, seed: int) -> ContextInput:
    rng = np.random.default_rng(seed)
    embeddings, logits = (rng.normal(size=(count, size)).astype(np.float32) for size in (WIDTH, 6))
    return ContextInput(
        embeddings, logits, geometry(np.cumsum(rng.uniform(1, 10, count))), np.arange(count)
    )


def context_model(config: ContextConfig) -> ContextEnsemble:
    """Two members whose corrections are not zero, as those that have learnt something."""
    torch.manual_seed(0)
    made = ContextEnsemble(config, WIDTH).eval()
    for member in made.members:
        assert isinstance(member, ContextModel)
        nn.init.normal_(member.correction_head.weight, std=0.5)
    return made


def served_logits(model: ContextEnsemble, series: ContextInput) -> np.ndarray:
    return logit(score_context(model, series))


@pytest.mark.parametrize("count", [1, 2, 11, 60])
@pytest.mark.parametrize(
    "config",
    [
        ContextConfig(),
        ContextConfig(embeddings=True),
        ContextConfig(window=2),
        ContextConfig(window_mm=12.0),
    ],
    ids=["logits", "embeddings", "window", "window in mm"],
)
def test_what_the_slices_moved_is_all_that_parts_the_logit_from_the_baselines(
    config: ContextConfig, count: int
) -> None:
    """Completeness (Sundararajan et al., 2017, proposition 1)."""
    model = context_model(replace(config, hidden_size=8, ensemble_size=2))
    series, baseline = series_of(count, seed=count), np.linspace(-3, -1, 6).astype(np.float32)
    average = np.tile(series.embeddings.mean(axis=0), (count, 1))
    flat = replace(series, embeddings=average, logits=np.tile(baseline, (count, 1)))
    for index, k in ((0, 0), (count // 2, ANY), (count - 1, 3)):
        start, *moved = context_parts(model, series, baseline, index, k)
        assert len(moved) == count
        assert start == pytest.approx(served_logits(model, flat)[index, k], abs=1e-3)
        assert start + sum(moved) == pytest.approx(served_logits(model, series)[index, k], abs=1e-3)


@pytest.mark.parametrize("index", [0, 3, 9])
def test_nothing_is_drawn_from_beyond_the_window(index: int) -> None:
    model = context_model(ContextConfig(hidden_size=8, ensemble_size=1, window=2))
    _, *moved = context_parts(
        model, series_of(10, seed=3), np.zeros(6, dtype=np.float32), index, ANY
    )
    inside = np.abs(np.arange(10) - index) <= 2
    assert not np.array(moved)[~inside].any()
    assert np.all(np.abs(moved)[inside] > 1e-6)


def test_a_model_that_corrects_nothing_draws_on_the_slice_alone() -> None:
    fresh = ContextEnsemble(ContextConfig(hidden_size=8), WIDTH).eval()
    series, baseline = series_of(7, seed=1), np.full(6, -2.0, dtype=np.float32)
    start, *moved = context_parts(fresh, series, baseline, 4, ANY)
    expected = np.zeros(7)
    expected[4] = series.logits[4, ANY] + 2
    assert start == pytest.approx(-2.0)
    np.testing.assert_allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize(("block", "neighbour"), [(1, 2), (2, 4)], ids=["below", "above"])
def test_a_model_that_reads_one_neighbours_difference_draws_on_it_and_no_other(
    block: int, neighbour: int
) -> None:
    """Rows enter as own logits, differences to the slice below, to the one above, and geometry; the gate
    of the GRU is shut to what it read before."""
    model = context_model(ContextConfig(hidden_size=8, ensemble_size=1))
    (member,) = model.members
    assert isinstance(member, ContextModel)
    with torch.no_grad():
        kept = member.input_proj.weight[:, 6 * block : 6 * block + 6].clone()
        member.input_proj.weight.zero_()[:, 6 * block : 6 * block + 6] = kept
        for name, values in member.gru.named_parameters():
            values[8:16] = (
                -1000.0 if "bias" in name else 0.0
            )  # update gate: what is new is taken whole
            if "weight_hh" in name:
                values.zero_()
        for bias in (member.gru.bias_hh_l0, member.gru.bias_hh_l0_reverse):
            bias[16:] = 0.0
    series = series_of(7, seed=2)
    _, *moved = context_parts(model, series, np.zeros(6, dtype=np.float32), 3, ANY)
    elsewhere = np.delete(moved, [3, neighbour])
    np.testing.assert_allclose(elsewhere, 0, atol=1e-6)
    assert abs(moved[neighbour]) > 1e-3


def test_the_context_table_is_the_mean_over_chains(model: Model, scored: SeriesPrediction) -> None:
    z_mm = scored.series.z_mm
    found = explain(model, scored, 2, "any").context
    prob = [reading.prob["context"][2, ANY] for reading in model.read(scored.series.hu, z_mm)]
    assert found["contribution"].sum() == pytest.approx(np.mean(logit(np.array(prob))), abs=1e-3)
    assert found["what"].tolist() == ["baseline", *["slice"] * 9]
    assert found["slice_index"].tolist()[1:] == list(range(9))
    np.testing.assert_allclose(found["offset_mm"][1:], z_mm - z_mm[2])
    assert (found["contribution"].abs() > 1e-6).sum() > 2  # neighbours too


# The encoder


def one_head(count: int = 3, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 100, (count, side, side)).astype(np.int16)


def config_of(encoder: str, **changes: object) -> Config:
    slices = SlicesConfig(encoder=encoder, batch_size=3, tta_flip=False)
    return Config(precision="fp32", slices=replace(slices, **changes))


def encoder_of(config: Config) -> EncoderEnsemble:
    """Encoders of untrained layers that are normalised to `one_head`, with heads that take every feature for
    a sign."""
    torch.manual_seed(0)
    encoder = EncoderEnsemble(config.slices)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what it was given
    slices = torch.from_numpy(one_head(encoder.slices))[None].expand(4, -1, -1, -1)
    with torch.no_grad():
        encoder(slices, torch.zeros(slices.shape[:2], dtype=torch.bool))
        for member in encoder.members:
            member.head.weight.abs_()
    return encoder.eval()


@pytest.mark.parametrize("name", ENCODERS)
def test_the_heat_of_every_encoder_is_its_logit_spread_over_the_picture(name: str) -> None:
    """Every encoder ends in a mean over places and a linear head; where nothing speaks against a label, the
    heat's mean is the logit less its bias, over the last map's four places. The encoder stays as it was."""
    config = config_of(name)
    encoder, hu = encoder_of(config), one_head()
    before = embed(encoder, hu, config)[1]
    (heat,) = heat_maps(encoder, hu, config, [(1, ANY)])
    after = embed(encoder, hu, config)[1]
    assert heat.shape == (64, 64)
    bias = encoder.members[0].head.bias[ANY].item()
    assert heat.min() > 0
    assert 4 * heat.mean() == pytest.approx(before[1, ANY] - bias, rel=1e-3)
    np.testing.assert_array_equal(before, after)
    assert all(parameter.grad is None for parameter in encoder.parameters())


def bright_seeker(config: Config) -> EncoderEnsemble:
    """FoldEncoders whose one feature is how far a place is above the middle of the brain window; their head
    takes it for `any`, and its absence for the first subtype."""
    encoder = encoder_of(config)
    for member in encoder.members:
        look = nn.Conv2d(6, 1, kernel_size=1)
        with torch.no_grad():
            look.weight.zero_()[0, 0] = 1.0
            look.bias.zero_()
            member.backbone = nn.Sequential(
                look, nn.ReLU(), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1)
            )
            member.head = nn.Linear(1, len(LABELS))
            member.head.weight.zero_()[ANY] = 5.0
            member.head.weight[0] = -5.0
    return encoder


@pytest.mark.parametrize("mirror", [False, True])
def test_an_encoder_that_seeks_brightness_looks_at_the_blob(mirror: bool) -> None:
    config = config_of("resnet10", neighbours=0, ensemble_size=2, tta_flip=mirror)
    hu = np.full((3, 64, 64), 30, dtype=np.int16)
    hu[1, 40:48, 8:16] = 75
    heat, above, other = heat_maps(bright_seeker(config), hu, config, [(1, ANY), (0, ANY), (1, 0)])
    peak = np.unravel_index(heat.argmax(), heat.shape)
    assert 40 <= peak[0] < 48
    assert 8 <= peak[1] < 16
    assert heat[40:48, 8:16].sum() > 0.7 * heat.sum()
    assert not heat[:32].any()
    assert not above.any()  # the blob is in the slice above
    assert not other.any()  # a sign against it is no sign of it


def test_the_heat_of_a_mirrored_head_is_mirrored_where_scores_are_of_both() -> None:
    config = config_of("resnet10", tta_flip=True)
    encoder, hu = encoder_of(config), one_head()
    (plain,) = heat_maps(encoder, hu, config, [(1, ANY)])
    (turned,) = heat_maps(encoder, np.ascontiguousarray(hu[:, :, ::-1]), config, [(1, ANY)])
    np.testing.assert_allclose(turned[:, ::-1], plain, atol=1e-5)
    assert plain.std() > 0


# The whole


def test_the_heat_is_a_share_of_its_strongest_sign(model: Model, scored: SeriesPrediction) -> None:
    found = [explain(model, scored, 4, label).heat for label in ("any", "subdural", "epidural")]
    for heat in found:
        assert heat.shape == scored.series.hu[4].shape
        assert heat.dtype == np.float32
        assert heat.min() >= 0
        assert heat.max() in (0, 1)
    assert max(heat.max() for heat in found) == 1


def test_no_sign_at_all_is_no_heat(model: Model, scored: SeriesPrediction, tmp_path: Path) -> None:
    blind = deepcopy(model)
    with torch.no_grad():
        for fold_model in blind.fold_models:
            fold_model.encoder.members[0].head.weight.abs_().neg_()
    assert not explain(blind, scored, 4, "any").heat.any()


def test_a_single_slice_has_no_neighbours(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("one", n=1), tmp_path)
    (item,) = predict_one(model, tmp_path, None).series
    found = explain(model, item, 0, "any")
    assert found.context["what"].tolist() == ["baseline", "slice"]
    assert "+0.00 from its neighbours" in summary_sentence(found)


def test_the_default_slice_is_the_one_that_the_stack_scores_highest(
    scored: SeriesPrediction,
) -> None:
    for k, label in enumerate(LABELS):
        assert pick_slice(scored, None, label) == scored.prob["stack"][:, k].argmax()


def test_a_slice_is_named_by_uid_or_index(scored: SeriesPrediction) -> None:
    for index, key in enumerate(scored.series.keys):
        assert pick_slice(scored, key.sop_uid, "any") == index
        assert pick_slice(scored, str(index), "any") == index
    for wrong in ("9", "-1", "1.2.3", ""):
        with pytest.raises(DataError, match="give 0 to 8"):
            pick_slice(scored, wrong, "any")


def test_a_uid_of_several_frames_is_refused(scored: SeriesPrediction) -> None:
    keys = [
        key._replace(sop_uid="1.2.3") if index < 2 else key
        for index, key in enumerate(scored.series.keys)
    ]
    several = replace(scored, series=replace(scored.series, keys=tuple(keys)))
    with pytest.raises(DataError, match="slices 0 to 1"):
        pick_slice(several, "1.2.3", "any")


def test_what_is_not_there_is_not_explained(model: Model, scored: SeriesPrediction) -> None:
    with pytest.raises(DataError, match="slices 0 to 8"):
        explain(model, scored, 9, "any")
    with pytest.raises(DataError, match="did you mean 'subdural'"):
        explain(model, scored, 0, "subdurl")


# The door


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], model_folder: Path) -> Run:
    """`ich3d explain PATH --model ... WORDS`: exit code, stdout, stderr."""

    def call(path: Path, *words: object) -> tuple[int, str, str]:
        argv = ["explain", path, "--model", model_folder, *words]
        try:
            code = main([str(word) for word in argv])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def refusal(run: Run, path: Path, *words: object) -> str:
    """The one sentence of a user's mistake."""
    code, out, err = run(path, *words)
    assert (code, out) == (2, "")
    (line,) = (line for line in err.splitlines() if line.startswith("ich3d: "))
    return line


def test_the_door_writes_a_table_a_picture_and_a_sentence(
    run: Run, head: Path, scored: SeriesPrediction, tmp_path: Path
) -> None:
    uid = scored.series.keys[5].sop_uid
    code, out, err = run(head, "-v", "--slice", uid, "--label", "subdural", "-o", tmp_path / "one")
    assert code == 0
    csv, png, words = out.splitlines()
    assert (csv, png) == tuple(
        str(tmp_path / "one" / f"explanation.{kind}") for kind in ("csv", "png")
    )
    assert words.startswith(f"Slice 5 ({uid}) scores 0.")
    table = pd.read_csv(csv)
    assert list(table) == ["stage", "offset_mm", "slice_index", "what", "contribution"]
    assert table["stage"].value_counts().to_dict() == {"context": 10, "stack": 1}
    assert table.loc[table["offset_mm"] == 5, "slice_index"].tolist() == [6]
    with Image.open(png) as image:
        assert image.width > 1000
    text = b"".join(path.read_bytes() for path in (tmp_path / "one").iterdir()).decode("latin-1")
    assert "patient a" not in text + out + err.replace(str(tmp_path), "")


def test_one_of_several_series_is_named(
    run: Run, make_head: Callable[..., SeriesToWrite], head: Path, tmp_path: Path
) -> None:
    for name in "ab":
        write_series(make_head(name, n=9), tmp_path / "in" / name)
    wanted = make_head("a").series_uid
    assert "holds 2 series; name one of them" in refusal(
        run, tmp_path / "in", "-o", tmp_path / "out"
    )
    assert f"did you mean {wanted!r}" in refusal(
        run, tmp_path / "in", "--series", wanted[:-1], "-o", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()
    assert run(tmp_path / "in", "--series", wanted, "-o", tmp_path / "out")[0] == 0


def test_a_wrong_word_is_one_sentence(run: Run, head: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    assert "no label is called 'any!'" in refusal(run, head, "--label", "any!", *out)
    assert "no slice 9 in" in refusal(run, head, "--slice", 9, *out)
    assert str(tmp_path / "nowhere") in refusal(run, tmp_path / "nowhere", *out)
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'} is not a folder" in refusal(run, head, "-o", tmp_path / "file")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_scored_is_said(run: Run, finished_run: Config, tmp_path: Path) -> None:
    headless = Workspace(Path(finished_run.workspace)).source("phantom") / "headless"
    code, out, err = run(headless, "-o", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "no body of tissue as large as a head was found" in err
    (tmp_path / "in").mkdir()
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "no head CT volume was found" in err
    assert not (tmp_path / "out").exists()
