"""What values and units mean to each command: the same codes, and one verdict for each code."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from ich3d.cli.parser import main
from ich3d.core.issues import IssueCode
from ich3d.core.workspace import read_csv
from ich3d.dicom.uids import uid
from ich3d.dicom.write import write_series
from tests.helpers.lifelike import PIXEL_MM, lifelike_head
from tests.helpers.pixels import store_values
from tests.helpers.series import edit, head_series

N = 6

KINDS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]] = {
    "good": (lambda hu: hu, {}),
    "resaved": (lambda hu: hu, {"RescaleType": "US"}),
    "wrapped": (lambda hu: hu.astype("<u2"), {}),
    "padding": (lambda hu: hu, {"PixelPaddingValue": -32768, "PixelPaddingRangeLimit": 32767}),
    "lost": (lambda hu: hu + 1024, {}),
    "iodine": (lambda hu: hu.clip(0), {"RescaleType": "MGML"}),
    "screen": (lambda hu: hu.clip(0, 80).astype("u1"), {"SOPClassUID": None}),
}

HEADER_CODES = {"resaved": "unspecified_unit", "iodine": "not_hu", "screen": "not_hu"}
PIXEL_CODES = {"wrapped": "wrap_mended", "padding": "padding_ignored", "lost": "implausible_hu"}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a series of each of `KINDS`, in a folder of its name."""
    folder = tmp_path_factory.mktemp("kinds")
    for seed, (name, (change, attributes)) in enumerate(KINDS.items()):
        series = replace(
            head_series(name, n=N),
            pixel_spacing_mm=(PIXEL_MM, PIXEL_MM),
            extra={"PatientName": "S"},
        )
        paths = write_series(series, folder / name)
        for path, hu in zip(paths, lifelike_head(N, seed=seed), strict=True):
            store_values(path, change(hu), **{k: v for k, v in attributes.items() if v is not None})
            if name == "screen":
                edit(path, SOPClassUID=SecondaryCaptureImageStorage)
    return folder


def series_uid(name: str) -> str:
    return uid("head series", name)


def inspected(
    kinds: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> dict[str, set[str]]:
    """The codes of each kind by `ich3d inspect`, those of files that are left out too."""
    assert main(["inspect", str(kinds), "--json", *options]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert not tree["rejected"]
    names = {series_uid(name): name for name in KINDS}
    codes: dict[str, set[str]] = defaultdict(set)
    for series in tree["series"]:
        codes[names[series["series_uid"]]] |= {reason["code"] for reason in series["reasons"]}
    for left_out in tree["left_out"]:
        codes[left_out["paths"][0].split("/")[0]].add(left_out["code"])
    return {name: found for name, found in codes.items() if found}


def test_inspect_shows_the_codes_of_headers_and_pixels(
    kinds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = {name: {code} for name, code in HEADER_CODES.items()}
    assert inspected(kinds, capsys, "--headers-only") == headers
    pixels = {name: {code} for name, code in PIXEL_CODES.items()}
    assert inspected(kinds, capsys) == headers | pixels
    assert inspected(kinds, capsys, "--lenient") == headers | pixels


def test_convert_writes_with_a_warning_what_is_doubted_and_no_map(
    kinds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(kinds), "-o", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    written = {path.name.removesuffix(".nii.gz") for path in tmp_path.iterdir()}
    assert written == {series_uid(name) for name in KINDS if name not in ("iodine", "screen")}
    (doubted,) = (line for line in out.splitlines() if series_uid("lost") in line)
    assert "the values do not look like HU: no pixel is air" in doubted
    assert f"{2 * N} files left out that hold no HU; the first is iodine/" in err


def test_prepare_rejects_what_is_doubted(
    kinds: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"workspace: {tmp_path / 'run'}\n"
        f"source: {{kind: folder, path: {kinds}}}\n"
        "prepare: {matrix: 48, pixel_mm: 5.0, folds: 3}\n"
    )
    with caplog.at_level("INFO", logger="ich3d"):
        assert main(["prepare", "--config", str(config)]) == 3
    (rejected,) = read_csv(tmp_path / "run/rejected.csv").to_dict("records")
    assert (rejected["subject"], rejected["code"]) == (series_uid("lost"), "implausible_hu")
    assert f"{2 * N} files left out that hold no HU" in caplog.text
    table = read_csv(tmp_path / "run/inspect.csv")
    codes = dict(zip(table["volume_id"], table["codes"].fillna(""), strict=True))
    expected = {"good": "", **HEADER_CODES, **PIXEL_CODES}
    assert codes == {
        series_uid(name): expected[name] for name in ("good", "resaved", "wrapped", "padding")
    }


@pytest.mark.parametrize("options", [(), ("--lenient",)], ids=["strict", "lenient"])
def test_predict_scores_what_is_doubted_only_under_lenient(
    kinds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """Also into the same folder that holds the results of the other policy."""
    for chosen in (options, () if options else ("--lenient",), options):
        code = main(["predict", str(kinds), "-o", str(tmp_path), "--fast", *chosen])
        assert code == (0 if chosen else 3)
    table = read_csv(tmp_path / "series.csv")
    codes = dict(zip(table["series_uid"], table["codes"].fillna(""), strict=True))
    expected = {"good": "", **HEADER_CODES, **PIXEL_CODES}
    scored = ["good", "resaved", "wrapped", "padding", *(["lost"] if options else [])]
    assert codes == {series_uid(name): expected[name] for name in scored}

    failures = read_csv(tmp_path / "failures.csv").to_dict("records")
    rejected = {row["subject"]: row["code"] for row in failures}
    assert rejected == ({} if options else {series_uid("lost"): IssueCode.IMPLAUSIBLE_HU.value})
    assert f"{2 * N} files left out that hold no HU" in capsys.readouterr().err
