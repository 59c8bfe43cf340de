"""Metadata of a prepared series as JSON-ready data: the form in which a store's files hold it."""

from dataclasses import asdict
from typing import Any

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Acquisition, Issue, SeriesMetadata, SliceKey


def metadata_to_json(series: SeriesMetadata) -> dict[str, Any]:
    """`series` as plain lists, texts and numbers; pixels, if it has any, are left out."""
    return {
        "volume_id": series.volume_id,
        "series_uid": series.series_uid,
        "study_uid": series.study_uid,
        "patient_id": series.patient_id,
        "preprocessing": series.preprocessing_sha256,
        "files": series.files_sha256,
        "z_mm": series.z_mm.tolist(),
        "keys": [list(key) for key in series.keys],
        "hashes": list(series.slice_hashes),
        "hu_features": series.hu_features.tolist(),
        "issues": [[issue.code.value, issue.detail] for issue in series.issues],
        "facts": acquisition_to_json(series.acquisition),
    }


def metadata_from_json(tree: dict[str, Any]) -> SeriesMetadata:
    """The metadata that `metadata_to_json` made a tree of.

    A file of an older version has no `issues` but their `codes`, joined by `|`; the details of
    these issues are empty.
    """
    return SeriesMetadata(
        volume_id=tree["volume_id"],
        series_uid=tree["series_uid"],
        study_uid=tree["study_uid"],
        patient_id=tree["patient_id"],
        z_mm=np.array(tree["z_mm"], dtype=np.float64),
        keys=tuple(SliceKey(*key) for key in tree["keys"]),
        slice_hashes=tuple(tree["hashes"]),
        hu_features=np.array(tree["hu_features"], dtype=np.float32),
        issues=_issues_from_json(tree),
        acquisition=_acquisition_from_json(tree["facts"]),
        preprocessing_sha256=tree["preprocessing"],
        files_sha256=tree["files"],
    )


def acquisition_to_json(acquisition: Acquisition) -> dict[str, Any]:
    """`acquisition` with its transfer syntaxes joined by `|`, as in a row of `inspect.csv`."""
    return {
        **asdict(acquisition),
        "transfer_syntaxes": "|".join(acquisition.transfer_syntaxes),
    }


def _acquisition_from_json(tree: dict[str, Any]) -> Acquisition:
    return Acquisition(**{**tree, "transfer_syntaxes": tuple(tree["transfer_syntaxes"].split("|"))})


def _issues_from_json(tree: dict[str, Any]) -> tuple[Issue, ...]:
    if "issues" in tree:
        return tuple(Issue(IssueCode(code), detail) for code, detail in tree["issues"])
    return tuple(Issue(IssueCode(code), "") for code in tree["codes"].split("|") if code)
