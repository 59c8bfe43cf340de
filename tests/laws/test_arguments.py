"""Every public function takes what the others return, and refuses anything else in one sentence."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import ich3d
from ich3d.config.load import load_config
from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig, PrepareConfig
from ich3d.core.issues import IssueCode
from ich3d.core.types import PreparedSeries, Rejected
from ich3d.core.workspace import Workspace
from ich3d.dicom.index import index, index_all
from ich3d.dicom.volume import load_volume
from ich3d.explain.explanation import explain
from ich3d.inference.run import predict_to_folder
from ich3d.inference.scoring import SeriesPrediction
from ich3d.inference.tables import series_table, slice_table
from ich3d.model.folder import Model
from ich3d.phantom import write_phantoms
from ich3d.prepare.head import ReorientedVolume, crop_head, reorient
from ich3d.prepare.series import prepare_series
from ich3d.prepare.store import Store
from ich3d.training.losses import masked_log_loss

pytestmark = pytest.mark.trains

REJECTED = Rejected("study/1", IssueCode.NO_HEAD, "no body of tissue as large as a head was found")
NO_OBJECTS: list[Any] = [None, 3.5, "some text", [], REJECTED]
NO_PATHS: list[Any] = [None, 3.5, "", ["a"], b""]
NO_NUMBERS: list[Any] = [None, "text", 3.5, [[1.0], [1.0, 2.0]], np.array(["a", "b"]), [], {}]


@dataclass(frozen=True)
class Given:
    """One call of a public function: its arguments, all right, and wrong values for some."""

    call: Callable[..., Any]
    right: dict[str, Any]
    wrong: dict[str, list[Any]]

    def each_wrong(self) -> Iterator[tuple[str, Any]]:
        for name, values in self.wrong.items():
            for value in values:
                yield name, value


@pytest.fixture(scope="module")
def store(finished_run: Config) -> Store:
    return Store(str(Workspace(Path(finished_run.workspace)).store))


@pytest.fixture(scope="module")
def series(store: Store) -> PreparedSeries:
    return store.series(store.volume_ids[0])


@pytest.fixture(scope="module")
def study(finished_run: Config, store: Store) -> str:
    """The folder of one study of the run, as text."""
    path = store.metadata(store.volume_ids[0]).keys[0].path
    source = Workspace(Path(finished_run.workspace)).source("phantom")
    return str(source / Path(path).parent)


@pytest.fixture(scope="module")
def prediction(model: Model, study: str) -> SeriesPrediction:
    (scored,) = ich3d.predict(model, study).series
    return scored


def wrong_arrays(right: Any, may_be_nan: bool = False) -> list[Any]:
    """Arrays like `right` with a wrong shape, kind or value."""
    array = np.asarray(right)
    spoilt = array.astype(np.float64).copy()
    spoilt.flat[0] = np.nan
    of_values = [] if may_be_nan else [spoilt, np.full(array.shape, np.inf)]
    of_shape = [array[None], array[:0], array[:-1], array.ravel()[0]]
    return [*NO_NUMBERS, *of_shape, array.astype(complex), array.astype(str), *of_values]


def wrong_tensors(right: torch.Tensor) -> list[Any]:
    """Tensors like `right` with a wrong shape, and what is no tensor."""
    return [None, "text", 3.5, right.numpy(), right[None], right[..., :0], right[:, :-1].flatten()]


def scoring(model: Model, series: PreparedSeries) -> Iterator[Given]:
    """Numpy, and scores of whole series."""
    z_mm = series.z_mm
    unordered = [z_mm[::-1], np.zeros_like(z_mm), np.r_[z_mm[1:], z_mm[:1]]]
    yield Given(
        model.score,
        {"hu": series.hu, "z_mm": z_mm},
        {
            "hu": [
                *wrong_arrays(series.hu),
                series.hu[:, :-1, :-1],
                series.hu.astype(np.float32) * 1e5,
                REJECTED,
                replace(series, preprocessing_sha256="another grid"),
            ],
            "z_mm": [*wrong_arrays(z_mm), *unordered],
            "features": wrong_arrays(series.hu_features, may_be_nan=True)[1:],
        },
    )
    yield Given(
        ich3d.Stacker.empty().score,
        {"features": pd.DataFrame(index=range(2)), "start_prob": np.full((2, 6), 0.5)},
        {"features": NO_OBJECTS, "start_prob": wrong_arrays(np.full((2, 6), 0.5))},
    )
    stack = model.fold_models[0].stacker
    kept = {k: replace(v, is_kept=True, columns=("gap_mm",)) for k, v in stack.by_label.items()}
    yield Given(
        lambda features: replace(stack, by_label=kept).score(features, np.full((2, 6), 0.5)),
        {},
        {"features": [pd.DataFrame(index=range(2))]},
    )


def networks() -> Iterator[Given]:
    """Torch: constructors and forward passes."""
    encoder = ich3d.SliceEncoder("resnet10-half", windows=("brain",), neighbours=1).eval()
    hu, is_copy = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, dtype=torch.bool)
    not_finite = [torch.full_like(hu, torch.nan), torch.full_like(hu, torch.inf)]
    yield Given(
        encoder,
        {"hu": hu, "is_copy": is_copy},
        {
            "hu": [*wrong_tensors(hu), hu[:, :1], *not_finite, hu > 0],
            "is_copy": wrong_tensors(is_copy)[1:],
        },
    )
    yield Given(
        ich3d.SliceEncoder,
        {"backbone": "resnet10-half"},
        {
            "backbone": ["resnet", None, 3],
            "windows": ["brain", (), ("liver",)],
            "neighbours": [-1, 1.5, "1", None],
            "dropout": [-0.1, 1.5, "0.1", float("nan")],
        },
    )

    context = ich3d.ContextModel(8, hidden_size=4).eval()
    z_mm = torch.arange(5.0).repeat(2, 1)
    right = {
        "embeddings": torch.zeros(2, 5, 8),
        "logits": torch.zeros(2, 5, 6),
        "z_mm": z_mm,
        "lengths": torch.tensor([5, 3]),
        "brain_cm2": torch.ones(2, 5),
    }
    lengths = [torch.tensor([6, 3]), torch.tensor([0, 3]), torch.tensor([5.0, 3.0]), [5, 3]]
    wrong = {name: wrong_tensors(value) for name, value in right.items() if name != "lengths"}
    wrong["z_mm"] += [z_mm.flip(1), torch.zeros_like(z_mm), torch.full_like(z_mm, torch.nan)]
    yield Given(context, right, {**wrong, "lengths": lengths, "features": [torch.zeros(2, 5, 1)]})
    yield Given(
        ich3d.ContextModel,
        {"embedding_width": 8},
        {
            "embedding_width": [0, -1, "8", 1.5, None],
            "reads": ["pixels", None],
            "hidden_size": [0, 1.5, "8"],
            "direction": ["up"],
            "window": [-1, "1"],
            "num_features": [-1, 1.5],
        },
    )
    yield Given(
        masked_log_loss,
        {"logits": torch.zeros(2, 6), "target": torch.zeros(2, 6)},
        {
            "logits": wrong_tensors(torch.zeros(2, 6)),
            "target": [*wrong_tensors(torch.zeros(2, 6)), torch.zeros(3, 6)],
        },
    )


def data_sets(store: Store, folder: Path) -> Iterator[Given]:
    """Stores, data sets, and models of one's own."""
    encoder = ich3d.SliceEncoder("resnet10-half", windows=("brain",), neighbours=0).eval()
    context = ich3d.ContextModel(encoder.embedding_width, hidden_size=4).eval()
    no_names = ["brain", ["unknown"], 3.5]
    yield Given(
        ich3d.SliceDataset,
        {"store": store},
        {
            "store": [*NO_OBJECTS, str(store.folder)],
            "volume_ids": no_names,
            "neighbours": [-1, 0.5, None],
        },
    )
    yield Given(
        ich3d.SeriesDataset,
        {"store": store, "embedded": {}},
        {"store": NO_OBJECTS, "embedded": [None, [], "text", {"unknown": None}]},
    )
    yield Given(
        ich3d.SeriesDataset.from_encoder,
        {"store": store, "encoder": encoder, "volume_ids": []},
        {"store": NO_OBJECTS, "encoder": NO_OBJECTS, "volume_ids": no_names},
    )
    yield Given(
        ich3d.save_model,
        {"folder": folder / "own", "encoder": encoder, "context": context, "grid": store},
        {
            "folder": NO_PATHS,
            "encoder": NO_OBJECTS,
            "context": [*NO_OBJECTS, ich3d.ContextModel(3)],
            "stacker": NO_OBJECTS[1:],
            "grid": [*NO_OBJECTS, str(store.folder)],
            "training_groups": ["p1"],
        },
    )
    for method in (store.hu, store.z_mm, store.targets, store.hu_features, store.series):
        yield Given(method, {"volume_id": store.volume_ids[0]}, {"volume_id": ["unknown", None, 3]})


def files(model: Model, study: str, folder: Path) -> Iterator[Given]:
    """Functions that take paths, and those that take what is read from them."""
    missing = [*NO_PATHS, str(folder / "nowhere"), folder / "nowhere"]
    (series,) = index(study).series
    volume: Any = load_volume(series)
    yield Given(index, {"path": study}, {"path": missing})
    yield Given(index_all, {"paths": [study]}, {"paths": [[], "nowhere", [None], 3.5]})
    yield Given(load_volume, {"series": series}, {"series": [*NO_OBJECTS, series.headers]})
    yield Given(reorient, {"volume": volume}, {"volume": [*NO_OBJECTS, series]})
    yield Given(crop_head, {"volume": reorient(volume), "config": PrepareConfig()},
                {"volume": [*NO_OBJECTS, volume]})  # fmt: skip
    yield Given(prepare_series, {"volume": volume, "config": PrepareConfig()},
                {"volume": NO_OBJECTS})  # fmt: skip
    yield Given(ich3d.load_model, {}, {"folder": missing})
    yield Given(lambda paths: ich3d.predict(model, *paths), {"paths": [study]},
                {"paths": [[], [None], [folder / "nowhere"]]})  # fmt: skip
    yield Given(lambda model: ich3d.predict(model, study), {}, {"model": missing})
    yield Given(
        predict_to_folder,
        {"model": model, "paths": study, "out": str(folder / "out")},
        {"model": missing, "paths": [[], None, folder / "nowhere"], "out": NO_PATHS},
    )
    yield Given(Store, {}, {"folder": missing})
    yield Given(Workspace, {"root": str(folder)}, {"root": NO_PATHS})
    yield Given(load_config, {}, {"path": missing})
    tiny = PhantomConfig(studies=1, matrix=32, thickness_mm=(40.0,))
    yield Given(lambda folder: list(write_phantoms(tiny, 0, folder)),
                {"folder": str(folder / "phantoms")}, {"folder": NO_PATHS})  # fmt: skip


def tables(model: Model, prediction: SeriesPrediction) -> Iterator[Given]:
    """What comes after the scores."""
    yield Given(
        explain,
        {"model": model, "prediction": prediction, "slice_index": 0, "label": "any"},
        {
            "model": NO_OBJECTS,
            "prediction": [*NO_OBJECTS, prediction.series],
            "slice_index": [-1, 10_000, 1.5, None, "0"],
            "label": ["liver", None, 3],
        },
    )
    for table in (slice_table, series_table):
        yield Given(table, {"scored": [prediction]}, {"scored": [[None], [prediction.series]]})


@pytest.fixture(scope="module")
def given(
    model: Model,
    store: Store,
    series: PreparedSeries,
    study: str,
    prediction: SeriesPrediction,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Given]:
    folder = tmp_path_factory.mktemp("arguments")
    return [
        *scoring(model, series),
        *networks(),
        *data_sets(store, folder),
        *files(model, study, folder),
        *tables(model, prediction),
    ]


def test_wrong_arguments_get_one_sentence(given: list[Given]) -> None:
    cases = [(one, name, value) for one in given for name, value in one.each_wrong()]
    failures = [problem for case in cases if (problem := sentence_problem(*case))]
    assert not failures, "\n".join(failures)
    assert len(cases) > 250


def sentence_problem(given: Given, name: str, value: Any) -> str:
    """What is wrong with how a call takes one wrong argument; empty where nothing is."""
    where = f"{getattr(given.call, '__qualname__', given.call)}, {name} = {value!r:.80}"
    try:
        given.call(**{**given.right, name: value})
    except ich3d.Ich3dError as error:
        sentence = str(error)
    except Exception as error:
        return f"{where}: {type(error).__name__}: {error}"
    else:
        return f"{where} was taken"
    is_plain = not re.search(r"[A-Z][a-z]+Error|object at 0x|<class|\n", sentence)
    return "" if is_plain and len(sentence) > 15 else f"{where}: {sentence}"


def test_right_arguments_are_taken(given: list[Given]) -> None:
    refused = [str(one.call) for one in given if one.right and not is_taken(one)]
    assert refused == []


def is_taken(given: Given) -> bool:
    try:
        given.call(**given.right)
    except ich3d.Ich3dError:
        return False
    return True


@pytest.mark.parametrize(
    "kind",
    [
        lambda array: array.astype(np.float32),
        lambda array: array.astype(np.float64),
        lambda array: array.tolist(),
        lambda array: torch.tensor(array),
        lambda array: torch.tensor(array, dtype=torch.float32),
        lambda array: torch.tensor(array, dtype=torch.float64).requires_grad_(),
        lambda array: np.ascontiguousarray(array[::-1])[::-1],
    ],
    ids=["float32", "float64", "list", "tensor", "float32 tensor", "with gradient", "reversed"],
)
def test_arrays_tensors_and_lists_score_alike(
    model: Model, series: PreparedSeries, kind: Callable[[np.ndarray], Any]
) -> None:
    expected = model.score(series.hu, series.z_mm)["stack"]
    prob = model.score(kind(series.hu), kind(series.z_mm), kind(series.hu_features))["stack"]
    np.testing.assert_allclose(prob, expected, atol=1e-6)


def test_a_volume_goes_to_scores_and_tables(
    model: Model, study: str, prediction: SeriesPrediction
) -> None:
    (one_series,) = index(study).series
    volume = load_volume(one_series)
    prepared = prepare_series(volume, model.config.prepare)  # type: ignore[arg-type]

    np.testing.assert_array_equal(model.score(volume)["stack"], prediction.prob["stack"])
    np.testing.assert_array_equal(model.score(prepared)["stack"], prediction.prob["stack"])
    table = slice_table([prediction])
    assert (
        table["stack_any"].tolist()
        == prediction.prob["stack"][:, -1].astype(float).round(7).tolist()
    )
    assert series_table([prediction])["prob_any"].item() == table["stack_any"].max()


def test_a_descending_series_is_told_how_to_turn(model: Model, series: PreparedSeries) -> None:
    turned = series.hu[::-1], series.z_mm[::-1]
    with pytest.raises(ich3d.DataError, match=re.escape("reverse both: hu[::-1] and z_mm[::-1]")):
        model.score(*turned)
    expected = model.score(series.hu, series.z_mm)["stack"]
    again = model.score(turned[0][::-1], turned[1][::-1])["stack"]
    np.testing.assert_array_equal(again, expected)


def test_a_rejected_volume_says_why_it_was(model: Model, study: str) -> None:
    with pytest.raises(ich3d.DataError, match="no body of tissue"):
        model.score(REJECTED)
    with pytest.raises(ich3d.DataError, match="no body of tissue"):
        reorient(REJECTED)  # type: ignore[arg-type]
    assert isinstance(reorient(load_volume(index(study).series[0])), ReorientedVolume)  # type: ignore[arg-type]
