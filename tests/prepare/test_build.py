"""Preparation from DICOM files to the store: groups, folds, labels, and what was not used."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, SourceConfig
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.types import Volume
from ich3d.core.workspace import Workspace, read_csv
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.prepare.build import prepare
from tests.helpers.undecodable import garble, two_kernels

PATIENTS = "abcdefgh"
Write = Callable[..., Config]


@pytest.fixture
def write(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Write:
    """A function that writes heads of four slices with `labels` by SOPInstanceUID.

    It returns the config for them.
    """

    def write(
        names: str = PATIENTS,
        labels: Mapping[str, int] | None = None,
        spoil: Callable[[str, SeriesToWrite], SeriesToWrite] = lambda name, series: series,
        max_slices: int | None = None,
    ) -> Config:
        for name in names:
            write_series(spoil(name, make_head(name, n=4)), tmp_path / "in" / name)
        table = tmp_path / "labels.csv"
        lines = [
            f"{sop}_{label},{value}" for sop, value in (labels or {}).items() for label in LABELS
        ]
        table.write_text("\n".join(["ID,Label", *lines, ""]))
        source = SourceConfig(
            kind="folder",
            path=str(tmp_path / "in"),
            labels=str(table) if labels is not None else None,
            max_slices=max_slices,
        )
        grid = PrepareConfig(folds=3, matrix=48, pixel_mm=6.0)
        return Config(workspace=str(tmp_path / "run"), source=source, prepare=grid)

    return write


def sops(name: str, n: int = 4) -> list[str]:
    return [uid("head slice", name, i) for i in range(n)]


def folds_of(config: Config) -> pd.DataFrame:
    return read_csv(Workspace(Path(config.workspace)).folds)


def test_every_patient_has_one_group_and_one_fold(write: Write) -> None:
    config = write()
    store = prepare(config).store
    table = folds_of(config)
    assert list(table) == ["patient_id", "group_id", "fold"]
    assert table["patient_id"].is_unique
    assert len(table) == len(PATIENTS)
    assert set(table["fold"]) == {0, 1, 2}
    assert store.table.groupby("group_id")["fold"].nunique().eq(1).all()


def test_an_undecodable_volume_rejects_its_whole_series_uid(write: Write) -> None:
    """Two kernels under one SeriesInstanceUID, of which one has a slice that does not decode."""
    config = write(names="")
    garble(two_kernels(Path(str(config.source.path)))[2])
    with pytest.raises(DataError, match="holds no head CT volume; 1 rejected"):
        prepare(config)
    (row,) = read_csv(Workspace(Path(config.workspace)).rejected).to_dict("records")
    assert (row["subject"], row["path"].count("|")) == ("2.25.9", 11)
    assert "b/2.dcm: PixelData (7FE0,0010)" in row["detail"]


def test_one_shared_slice_keeps_two_patients_in_one_fold(write: Write) -> None:
    """For any seed: the pixels of one slice of b are also under the name of g, stored mirrored."""
    shared: dict[str, np.ndarray] = {}

    def spoil(name: str, series: SeriesToWrite) -> SeriesToWrite:
        hu = series.hu.copy()
        if name == "b":
            shared["slice"] = hu[1]
        if name != "g":
            return series
        hu[3] = shared["slice"]
        position = series.position_mm + [63 * 4.0, 0, 0]
        return replace(series, hu=hu[:, :, ::-1], row_dir=(-1.0, 0.0, 0.0), position_mm=position)

    config = write(spoil=spoil)
    for seed in range(5):
        table = prepare(replace(config, seed=seed)).store.table
        linked = table[table["study_uid"].isin([uid("head study", "b"), uid("head study", "g")])]
        assert linked["patient_id"].nunique() == 2
        assert linked["group_id"].nunique() == 1
        assert linked["fold"].nunique() == 1
        assert table["group_id"].nunique() == len(PATIENTS) - 1


def test_a_relabelled_copy_of_a_patient_stays_with_the_first(write: Write) -> None:
    """The same pixels under another patient, study, series and slice names."""
    hu: dict[str, np.ndarray] = {}

    def spoil(name: str, series: SeriesToWrite) -> SeriesToWrite:
        hu[name] = series.hu
        return replace(series, hu=hu["a"]) if name == "h" else series

    table = prepare(write(spoil=spoil)).store.table
    both = table[table["study_uid"].isin([uid("head study", "a"), uid("head study", "h")])]
    assert both["group_id"].nunique() == 1
    assert both["fold"].nunique() == 1


def test_a_shared_slice_of_air_links_no_patients(write: Write) -> None:
    def spoil(name: str, series: SeriesToWrite) -> SeriesToWrite:
        hu = series.hu.copy()
        hu[3] = -1000
        return replace(series, hu=hu)

    assert prepare(write(spoil=spoil)).store.table["group_id"].nunique() == len(PATIENTS)


def test_two_series_of_one_patient_share_its_fold(write: Write) -> None:
    def spoil(name: str, series: SeriesToWrite) -> SeriesToWrite:
        return replace(series, patient_id="one patient" if name in "cf" else series.patient_id)

    table = prepare(write(spoil=spoil)).store.table
    assert table["patient_id"].nunique() == len(PATIENTS) - 1
    assert table["group_id"].nunique() == len(PATIENTS) - 1


def test_the_same_seed_gives_the_same_folds_and_another_may_not(write: Write) -> None:
    config = write()
    first = [folds_of(config)["fold"].tolist() for _ in range(2) if prepare(config)]
    assert first[0] == first[1]
    others = []
    for seed in range(1, 6):
        prepare(replace(config, seed=seed))
        others.append(dict(folds_of(config)[["patient_id", "fold"]].to_numpy().tolist()))
    assert any(other != others[0] for other in others)


def by_patient(config: Config) -> dict[str, int]:
    table = folds_of(config)
    return dict(zip(table["patient_id"], table["fold"].tolist(), strict=True))


def test_when_data_are_added_patients_keep_their_folds_and_new_ones_fill_the_gaps(
    write: Write,
) -> None:
    config = write(names="abcd")
    prepare(config)
    before = by_patient(config)
    write(names="efghij")
    prepare(config)
    after = by_patient(config)
    assert before.items() <= after.items()
    assert sorted(list(after.values()).count(fold) for fold in range(3)) == [3, 3, 4]


def test_a_new_link_across_folds_stops_and_refold_assigns_anew(write: Write) -> None:
    """A new patient has a slice of each of two patients who are in different folds."""
    config = write(names="abc")
    prepare(config)
    before = by_patient(config)
    assert len(set(before.values())) == 3
    hu = {name: make_hu(config, name) for name in "ab"}

    def spoil(name: str, series: SeriesToWrite) -> SeriesToWrite:
        pixels = series.hu.copy()
        pixels[1], pixels[2] = hu["a"], hu["b"]
        return replace(series, hu=pixels) if name == "d" else series

    write(names="defg", spoil=spoil)
    with pytest.raises(DataError, match="now share an identical brain slice") as caught:
        prepare(config)
    assert "--refold" in str(caught.value)
    linked = {name for name in before if name in str(caught.value)}
    assert len(linked) == 2
    assert by_patient(config) == before

    prepare(config, refold=True)
    assert len({by_patient(config)[name] for name in linked}) == 1


def make_hu(config: Config, name: str) -> np.ndarray:
    """The second slice of head `name` as it was written."""
    folder = Path(str(config.source.path)) / name
    (series,) = index(folder).series
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    return np.asarray(volume.hu[1])


def test_a_slice_without_a_label_is_listed_and_stays_in_its_series(write: Write) -> None:
    labels = {sop: 0 for name in PATIENTS for sop in sops(name)}
    without_label = labels.pop(sops("c")[2])
    assert without_label == 0
    config = write(labels={**labels, "9.9.9": 1})
    store = prepare(config).store
    unmatched = read_csv(
        Workspace(Path(config.workspace)).unmatched, text=("sop_uid", "lacks", "detail")
    )
    assert unmatched.to_numpy().tolist() == [
        [sops("c")[2], "label", "c/2.dcm"],
        ["9.9.9", "image", ""],
    ]
    targets = store.targets(uid("head series", "c"))
    assert np.isnan(targets).all(axis=1).tolist() == [False, False, True, False]


def test_how_labels_and_slices_match_is_told(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="ich3d")
    prepare(write(labels={sops("a")[0]: 1, sops("b")[0]: 0, "elsewhere": 1}))
    assert "labels for 2 of 32 slices; 1 labelled slice has no image" in caplog.text
    assert "patients with epidural 1, intraparenchymal 1" in caplog.text


def test_few_patients_are_warned_of(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    prepare(write("abc", labels={sops("a")[0]: 1}))
    assert "3 patient groups: no figure of such a run means anything" in caplog.text


def test_labels_of_other_images_are_refused_with_an_example_of_both(write: Write) -> None:
    with pytest.raises(DataError, match=r"names elsewhere, an image has the SOPInstanceUID 2\.25"):
        prepare(write(labels={"elsewhere": 1}))


def test_labels_reach_their_slice(write: Write) -> None:
    """Whatever the order of the table."""
    names = [sop for name in PATIENTS for sop in sops(name)]
    values = dict(
        zip(names, np.random.default_rng(0).integers(0, 2, len(names)).tolist(), strict=True)
    )
    store = prepare(write(labels=dict(reversed(values.items())))).store
    assert len(store.volume_ids) == len(PATIENTS)
    for volume_id in store.volume_ids:
        keys, targets = store.series(volume_id).keys, store.targets(volume_id)
        expected = [[values[key.sop_uid]] * len(LABELS) for key in keys]
        assert targets.tolist() == expected


def test_a_subset_takes_whole_patients(write: Write) -> None:
    labels = {sop: 0 for name in PATIENTS for sop in sops(name)}
    config = write(labels=labels, max_slices=13)
    table = prepare(config).store.table
    assert len(table) == 16
    assert (table.groupby("patient_id").size() == 4).all()
    assert read_csv(Workspace(Path(config.workspace)).unmatched).empty
    again = prepare(config).store.table
    assert again["patient_id"].tolist() == table["patient_id"].tolist()


def test_too_few_patients_for_the_folds_is_one_sentence(write: Write) -> None:
    with pytest.raises(DataError, match=r"^2 patient groups are too few for prepare\.folds=3; .*$"):
        prepare(write("ab"))


def test_a_folder_without_a_head_is_one_sentence(write: Write) -> None:
    def spoil(name: str, series: SeriesToWrite) -> SeriesToWrite:
        return replace(series, hu=np.full_like(series.hu, -1000))

    with pytest.raises(
        DataError, match=r"holds no head CT volume; 3 rejected, see .*rejected\.csv$"
    ):
        prepare(write("abc", spoil=spoil))


def test_a_rejected_series_is_listed_with_its_paths(write: Write) -> None:
    def spoil(name: str, series: SeriesToWrite) -> SeriesToWrite:
        return replace(series, hu=np.full_like(series.hu, -1000)) if name == "e" else series

    config = write(spoil=spoil)
    (rejected,) = prepare(config).rejected
    assert rejected.paths == tuple(f"e/{i}.dcm" for i in range(4))
    table = read_csv(Workspace(Path(config.workspace)).rejected)
    assert table["code"].tolist() == ["no_head"]
    assert table["path"].tolist() == ["|".join(rejected.paths)]


def test_no_patient_id_is_written(write: Write) -> None:
    config = write()
    prepare(config)
    for path in Path(config.workspace).rglob("*"):
        if path.is_file():
            assert b"patient a" not in path.read_bytes()


def test_a_missing_source_path_is_named(tmp_path: Path) -> None:
    config = Config(workspace=str(tmp_path), source=SourceConfig(kind="rsna"))
    with pytest.raises(DataError, match=r"source\.path is not set"):
        prepare(config)


def test_a_store_without_its_source_is_used_as_it_is(write: Write, tmp_path: Path) -> None:
    config = write()
    prepared = prepare(config).store
    shutil.rmtree(tmp_path / "in")
    carried = prepare(replace(config, source=SourceConfig(kind="folder"))).store
    assert carried.identity == prepared.identity


@pytest.mark.parametrize("change", [{"matrix": 64}, {"pixel_mm": 5.0}, {"folds": 4}])
def test_a_store_without_its_source_has_to_have_the_same_grid_and_folds(
    write: Write, change: dict[str, float]
) -> None:
    config = write()
    prepare(config)
    grid = replace(config.prepare, **change)  # type: ignore[arg-type]
    other = replace(config, source=SourceConfig(kind="folder"), prepare=grid)
    with pytest.raises(DataError, match=r"prepared with another prepare\.matrix"):
        prepare(other)
