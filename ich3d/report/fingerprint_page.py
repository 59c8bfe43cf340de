"""The page of a data set's fingerprint: its numbers and figures, and its contact sheets."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS
from ich3d.core.text import pluralize
from ich3d.core.workspace import DAMAGED, Workspace, read_json, replacing
from ich3d.prepare.contact_sheet import ABBREVIATIONS, SERIES_A_PAGE
from ich3d.prepare.fingerprint import HU_QUANTILES, QUANTILES, quantile_name
from ich3d.report.fingerprint_figures import (
    LEVELS,
    NUMBERS,
    fold_maps,
    hu_histograms,
    label_bars,
    number_histograms,
    together_maps,
)
from ich3d.report.page_template import template

log = logging.getLogger(__name__)

TEXTS: Final = {
    "manufacturer": "Manufacturer",
    "model": "Scanner",
    "convolution_kernel": "ConvolutionKernel",
    "matrix": "Rows x Columns",
    "series_description": "SeriesDescription, masked",
}
"""The text attributes of a fingerprint and what they are, in the order in which they are shown."""


def write_fingerprint_page(workspace: Workspace) -> Path:
    """Write `fingerprint.html` from `fingerprint.json`; returns its path.

    Raises:
        DataError: `fingerprint.json` is missing, damaged or of another version.
    """
    tree = read_json(workspace.fingerprint)
    try:
        content = _content(tree)
    except (KeyError, TypeError):
        raise DataError(
            f"{workspace.fingerprint} is no fingerprint of this version: {DAMAGED}"
        ) from None
    html = template("fingerprint.html.j2").render(content)
    with replacing(workspace.fingerprint_page) as partial:
        partial.write_text(html, encoding="utf-8")
    log.info("what the data are like: %s", workspace.fingerprint_page)
    return workspace.fingerprint_page


def _content(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of `fingerprint.html.j2`."""
    has_labels = tree["labels"]["slices"]["labelled"] > 0
    return {
        "tree": tree,
        "headline": _headline(tree),
        "has_labels": has_labels,
        "labels": LABELS,
        "levels": LEVELS,
        "label_bars": label_bars(tree["labels"]) if has_labels else None,
        "together_maps": together_maps(tree["labels"]) if has_labels else None,
        "fold_maps": fold_maps(tree["folds"]) if has_labels else None,
        "number_histograms": number_histograms(tree["numbers"]),
        "hu_histograms": hu_histograms(tree["hu"]),
        "numbers": NUMBERS,
        "quantiles": [quantile_name(share) for share in QUANTILES],
        "hu_quantiles": [quantile_name(share) for share in HU_QUANTILES],
        "texts": TEXTS,
        "abbreviations": ABBREVIATIONS,
        "series_a_page": SERIES_A_PAGE,
    }


def _headline(tree: Mapping[str, Any]) -> str:
    """The data set in one sentence."""
    counts, labels = tree["counts"], tree["labels"]["patients"]
    bleeding = "no slice has a label"
    if labels["labelled"]:
        labelled = pluralize(labels["labelled"], "labelled patient")
        bleeding = f"{labels['with_label'][ANY]} of {labelled} bleed"
    return (
        f"{pluralize(counts['slices'], 'slice')} in {counts['series']} series of "
        f"{pluralize(counts['patients'], 'patient')}; {bleeding}."
    )
