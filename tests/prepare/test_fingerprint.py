"""The fingerprint of a data set, on numbers that can be counted by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig
from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS
from ich3d.core.types import LeftOut, Rejected, SeriesMetadata
from ich3d.core.workspace import Workspace, read_json
from ich3d.dicom.origin import SeriesOrigin
from ich3d.prepare.fingerprint import NotUsed, SeriesTally, data_fingerprint
from ich3d.prepare.hu_features import shows_brain
from ich3d.prepare.series_fingerprint import N_BINS, SeriesFingerprint, bin_edges_hu
from ich3d.prepare.store import Store
from tests.helpers.prepared import acquisition, prepared_series

NOTHING = NotUsed((), (), pd.DataFrame({"lacks": []}), pd.DataFrame({"hash": []}))


def scanned(**texts: str) -> SeriesFingerprint:
    """The part of a series with these texts of its header, and one pixel of 40 HU."""
    counts = np.zeros(N_BINS, dtype=np.int64)
    counts[np.searchsorted(bin_edges_hu(), 40, side="right") - 1] = 1
    return SeriesFingerprint(SeriesOrigin(**texts), "", (250.0, 200.0), counts)


def of_slices(n: int, **changes: Any) -> SeriesMetadata:
    hu = np.zeros((n, 4, 4), dtype=np.int16)
    return prepared_series(hu, acquisition=acquisition(n, **changes)).metadata


def tally_of(*parts: tuple[SeriesMetadata, SeriesFingerprint]) -> SeriesTally:
    tally = SeriesTally()
    for series, fingerprint in parts:
        tally.add(series, fingerprint)
    return tally


def table(*rows: tuple[str, str, str, int, tuple[str, ...] | None]) -> pd.DataFrame:
    """Slices from (volume, patient, group, fold, labels); None is for a slice without labels."""
    return pd.DataFrame(
        {
            "volume_id": volume,
            "study_uid": volume,
            "patient_id": patient,
            "group_id": group,
            "fold": fold,
            **{label: np.nan if has is None else float(label in has) for label in LABELS},
        }
        for volume, patient, group, fold, has in rows
    )


SLICES = table(
    ("v1", "p1", "p1", 0, ("subdural", "any")),
    ("v1", "p1", "p1", 0, ("subdural", "epidural", "any")),
    ("v2", "p1", "p1", 0, ()),
    ("v3", "p2", "p1", 0, ("any",)),
    ("v4", "p3", "p3", 1, None),
    ("v5", "p4", "p4", 1, ("epidural", "any")),
)


def tree_of(tally: SeriesTally, slices: pd.DataFrame = SLICES) -> dict[str, Any]:
    return data_fingerprint(tally, slices, NOTHING, PrepareConfig(), [])


@pytest.fixture
def tree() -> dict[str, Any]:
    return tree_of(tally_of((of_slices(3), scanned())))


def test_labels_are_counted_by_slice_series_and_patient(tree: dict[str, Any]) -> None:
    labels = tree["labels"]
    assert [labels[level]["labelled"] for level in ("slices", "series", "patients")] == [5, 4, 3]
    any_counts = [labels[level]["with_label"]["any"] for level in ("slices", "series", "patients")]
    assert any_counts == [4, 3, 3]
    assert labels["slices"]["with_label"]["subdural"] == 2
    assert labels["series"]["with_label"]["subdural"] == 1
    assert labels["slices"]["together"]["subdural"]["epidural"] == 1
    assert labels["slices"]["together"]["epidural"]["epidural"] == 2
    assert labels["patients"]["together"]["epidural"]["subdural"] == 1
    of_slices = {"0": 2, "1": 2, "2": 1, "3": 0, "4": 0, "5": 0}
    assert labels["slices"]["number_of_subtypes"] == of_slices


def test_folds_and_linked_patients_are_counted(tree: dict[str, Any]) -> None:
    first, second = tree["folds"]
    assert (first["groups"], first["patients"], first["series"], first["slices"]) == (1, 2, 3, 4)
    assert first["labels"]["patients"]["any"] == 2
    assert second["labels"]["slices"]["epidural"] == 1
    links = {"groups": 3, "groups_of_several": 1, "linked_patients": 2, "largest_group": 2}
    assert tree["links"] == links


def test_numbers_have_quantiles_a_histogram_and_how_many_are_unknown() -> None:
    parts = [(of_slices(n), scanned()) for n in (10, 20, 20, 30)]
    parts.append((of_slices(1), scanned(slice_thickness_mm="5.0")))
    numbers = tree_of(tally_of(*parts))["numbers"]
    assert numbers["slices"]["quantiles"]["50%"] == 20
    assert numbers["slices"]["quantiles"]["0%"] == 1
    assert numbers["slices"]["quantiles"]["100%"] == 30
    assert sum(numbers["slices"]["histogram"]["counts"]) == numbers["slices"]["known"] == 5
    assert (numbers["slice_distance_mm"]["known"], numbers["slice_distance_mm"]["unknown"]) == (
        4,
        1,
    )
    assert (numbers["slice_thickness_mm"]["known"], numbers["kvp"]["known"]) == (1, 0)
    assert numbers["kvp"]["histogram"] == {"edges": [], "counts": []}
    assert numbers["field_of_view_mm"]["quantiles"]["50%"] == 250


@pytest.mark.parametrize("text", ["", "thick", "nan", "inf", "1e999"])
def test_a_thickness_that_is_no_number_is_not_known(text: str) -> None:
    numbers = tree_of(tally_of((of_slices(3), scanned(slice_thickness_mm=text))))["numbers"]
    assert numbers["slice_thickness_mm"]["unknown"] == 1
    assert numbers["slice_thickness_mm"]["known"] == 0


def test_the_order_of_the_series_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    parts = [
        (of_slices(int(n), spacing_mm=float(n) / 7), scanned(manufacturer=f"maker {n % 3}"))
        for n in rng.integers(2, 40, 50)
    ]
    assert tree_of(tally_of(*parts)) == tree_of(tally_of(*parts[::-1]))


def test_a_description_of_few_series_is_not_listed() -> None:
    """Free text may name somebody whom the header does not."""
    texts = ["Head 5 mm"] * 3 + ["for Dr Somebody"] * 2 + [""] * 4
    parts = [(of_slices(3), scanned(series_description=text)) for text in texts]
    parts.append((of_slices(3), scanned(manufacturer="Rare Maker")))
    found = tree_of(tally_of(*parts))["texts"]
    assert found["series_description"] == [["not told", 5], ["Head 5 mm", 3], ["others", 2]]
    assert ["Rare Maker", 1] in found["manufacturer"]


def test_many_scanners_are_cut_and_the_rest_is_counted() -> None:
    parts = [(of_slices(3), scanned(manufacturer=f"maker {number:03d}")) for number in range(50)]
    found = tree_of(tally_of(*parts))["texts"]["manufacturer"]
    assert len(found) == 31
    assert found[-1] == ["others", 20]


def test_what_is_not_used_is_counted_by_code() -> None:
    bad = [
        Rejected(name, IssueCode.NO_HEAD, "", (f"{name}/0.dcm", f"{name}/1.dcm")) for name in "ab"
    ]
    left_out = [LeftOut(("c.txt",), IssueCode.NOT_DICOM, "")]
    conflicts = pd.DataFrame({"hash": ["1", "1", "2", "2", "2"]})
    unmatched = pd.DataFrame({"lacks": ["label", "image", "label"]})
    tally = tally_of((of_slices(3), scanned()))
    not_used = NotUsed(bad, left_out, unmatched, conflicts)
    tree = data_fingerprint(tally, SLICES, not_used, PrepareConfig(), ["contact_sheets/a.jpg"])
    assert tree["rejected"] == {"no_head": {"entries": 2, "files": 4}}
    assert tree["left_out"] == {"not_dicom": {"entries": 1, "files": 1}}
    assert tree["unmatched"] == {"label": 2, "image": 1}
    assert tree["conflicting_labels"] == {"slices": 5, "images": 2}
    assert tree["issues"] == {"incomplete": 1}
    assert tree["contact_sheets"] == ["contact_sheets/a.jpg"]


def test_a_prepared_data_set_is_counted_pixel_by_pixel(finished_run: Config) -> None:
    """The sums over what series hold are those of all pixels of the store."""
    workspace = Workspace(Path(finished_run.workspace))
    tree, store = read_json(workspace.fingerprint), Store(workspace.store)
    hu = np.concatenate([store.hu(name).ravel() for name in store.volume_ids])
    edges = bin_edges_hu()
    counts, _ = np.histogram(hu.clip(edges[0], edges[-1] - 1), edges)
    assert tree["hu"]["histogram"]["counts"] == counts.tolist()

    tissue = hu[hu >= tree["hu"]["tissue_above"]]
    assert tree["hu"]["tissue_pixels"] == len(tissue)
    median = tree["hu"]["tissue_quantiles"]["50%"]
    assert median == pytest.approx(np.median(tissue), abs=2)

    features = np.concatenate([store.hu_features(name) for name in store.volume_ids])
    assert tree["counts"]["slices_without_brain"] == (~shows_brain(features)).sum()
    assert tree["numbers"]["brain_cm2"]["known"] == shows_brain(features).sum()
    assert tree["counts"]["series"] == len(store.volume_ids) == 7
    assert tree["rejected"]["no_head"]["entries"] == 1
