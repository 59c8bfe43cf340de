"""`ich3d model diff`: both models score the same studies, and what differs is written.

<out>/
  a, b         the predictions of the two models
  diff.json    data, configuration, files, figures, and what labels say
  slices.csv   both final scores of each slice
  diff.html    the same as a page
"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pandas as pd

import ich3d
from ich3d.core.labels import FLAG_AT
from ich3d.core.progress import Progress, quiet
from ich3d.core.text import pluralize
from ich3d.core.workspace import read_csv, replacing, write_csv, write_json
from ich3d.evaluation.model_diff import (
    LabelledDifference,
    flips,
    labelled_difference,
    largest_differences,
    manifest_differences,
    series_differences,
    slice_differences,
)
from ich3d.inference.run import predict_to_folder
from ich3d.model.manifest import Manifest, read_manifest
from ich3d.report.page_template import template

OUTPUTS: Final = ("diff.json", "slices.csv", "diff.html")
TITLES: Final = {"data": "Data", "config": "Configuration", "files": "Files", "figures": "Figures"}
DRAWS: Final = 1000
MAX_ROWS: Final = 200
"""Rows of a table on the page; `slices.csv` has all slices."""


def write_model_diff(
    a: Path,
    b: Path,
    studies: Sequence[Path],
    out: Path,
    labels: pd.DataFrame | None = None,
    progress: Progress = quiet,
    overwrite: bool = False,
) -> str:
    """Compare two models, write the files above to `out`, and return the result as text.

    Args:
        a: the folder of the first model.
        b: that of the second.
        studies: folders, zips or DICOM files that both score.
        out: the folder to write to.
        labels: the table of `sources.read_labels`; None where there is none.
        progress: shows how far scoring is.
        overwrite: whether predictions of other models in `out` are replaced.

    Raises:
        ModelError: a model folder cannot be used.
        DataError: a path does not exist, or no scored slice is labelled.
    """
    manifests = read_manifest(a), read_manifest(b)
    for model, name in ((a, "a"), (b, "b")):
        predict_to_folder(model, list(studies), out / name, progress, overwrite=overwrite)
    slices = slice_differences(out / "a", out / "b")
    labelled = None
    if labels is not None:
        labelled = labelled_difference(out / "a", out / "b", labels, DRAWS, seed=0)

    differences = manifest_differences(*manifests)
    series, largest, flipped = (
        series_differences(slices),
        largest_differences(slices),
        flips(slices),
    )
    write_csv(out / "slices.csv", slices)
    write_json(
        out / "diff.json",
        {
            "models": {"a": manifests[0].sha256, "b": manifests[1].sha256},
            "is_same": manifests[0].sha256 == manifests[1].sha256,
            **differences,
            "slices": len(slices),
            "flips": int(flipped.sum()),
            "labelled": None if labelled is None else asdict(labelled),
        },
    )
    headline = _headline(manifests, slices, flipped, labelled)
    tables = {
        "Series": series,
        "Largest differences": largest,
        f"Flags that flip at {FLAG_AT:g}": slices.loc[flipped],
    }
    html = template("model_diff.html.j2").render(
        headline=headline,
        metadata=_metadata(a, b, manifests, _trained_on(out)),
        manifests=differences,
        titles=TITLES,
        tables={name: _rows(table) for name, table in tables.items()},
        cell=cell,
    )
    with replacing(out / "diff.html") as partial:
        partial.write_text(html, encoding="utf-8")
    return _text(headline, differences, largest)


def cell(value: object) -> str:
    """A value in a table: floats with four decimals, the start of a hash, a dash for what is not
    there.
    """
    if value is None:
        return "-"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return value[:12]
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _headline(
    manifests: tuple[Manifest, Manifest],
    slices: pd.DataFrame,
    flipped: "pd.Series[bool]",
    labelled: LabelledDifference | None,
) -> str:
    if manifests[0].sha256 == manifests[1].sha256:
        return "Nothing differs: both are the same model."
    count = f"{int(flipped.sum())} of {pluralize(len(slices), 'slice')} change their flag."
    if labelled is None:
        return count
    return (
        f"{count} B minus A: weighted log loss {labelled.log_loss:+}, AUC of any "
        f"{labelled.auc_any:+}, on {pluralize(labelled.n_slices, 'labelled slice')} of "
        f"{pluralize(labelled.n_groups, 'patient')}."
    )


def _trained_on(out: Path) -> str:
    """How many series are of patients whom one of both models was trained on."""
    text = ("volume_id", "trained_on")
    series = pd.concat([read_csv(out / name / "series.csv", text) for name in ("a", "b")])
    known = series.loc[series["trained_on"] == "yes", "volume_id"].nunique()
    return (
        f"{known} of {series['volume_id'].nunique()} scored series are of patients whom A or B was "
        "trained on; new patients are scored less well"
    )


def _metadata(
    a: Path, b: Path, manifests: tuple[Manifest, Manifest], trained_on: str
) -> dict[str, str]:
    return {
        **{
            f"model {name}": f"{path}, {manifest.sha256[:12]}, by ich3d {manifest.ich3d_version}"
            for name, path, manifest in zip("AB", (a, b), manifests, strict=True)
        },
        "compared": f"by ich3d {ich3d.__version__}, each model through its own preprocessing",
        "trained on": trained_on,
        "intervals": f"95 %, {DRAWS} resamples of patients, the same for both",
    }


def _rows(table: pd.DataFrame) -> dict[str, Any]:
    rows = table.head(MAX_ROWS).itertuples(index=False, name=None)
    return {"columns": list(table), "rows": list(rows)}


def _text(headline: str, differences: dict[str, dict[str, Any]], largest: pd.DataFrame) -> str:
    """The result for the screen."""
    lines = [headline]
    for part, rows in differences.items():
        lines += [f"{TITLES[part]}: {pluralize(len(rows), 'difference')}"] if rows else []
        shown = rows if part in ("config", "data") else {}
        lines += [f"  {name}: {cell(one)} -> {cell(other)}" for name, (one, other) in shown.items()]
    if len(largest):
        lines += ["Largest differences:", largest.to_string(index=False, float_format="%.4f")]
    return "\n".join(lines)
