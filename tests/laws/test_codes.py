"""All commands find the same codes, and do about them what docs/issues.md says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ich3d.cli.parser import main
from ich3d.core.issues import IssueCode
from ich3d.dicom.uids import uid
from ich3d.dicom.write import write_series
from tests.helpers.series import edit, head_series

DOCUMENT = Path(__file__).parents[2] / "docs" / "issues.md"
COMMANDS = ("inspect", "convert", "prepare", "predict")

Codes = tuple[set[str], set[str]]
"""The codes of what is used, and of what is rejected."""


def documented() -> dict[str, list[str]]:
    """The cells after the meaning, by code."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCUMENT.read_text(), flags=re.M)
    return {code: [cell.strip() for cell in cells.split("|")[1:]] for code, cells in rows}


def test_the_table_has_every_code_and_a_cell_for_each_command() -> None:
    table = documented()
    assert {code.value for code in IssueCode} <= set(table)
    assert {len(cells) for cells in table.values()} == {len(COMMANDS) + 1}


def head(name: str, folder: Path, **changes: Any) -> list[Path]:
    """A head of six slices, or of as many as `changes` says, in files of their own names."""
    n = changes.get("n", 6)
    changes = {"file_names": [f"{name}{i}.dcm" for i in range(n)], **changes}
    return write_series(head_series(**{"name": name, **changes}), folder)


def heights(*z_mm: float) -> np.ndarray:
    """Positions (Z, 3) at the heights `z_mm`."""
    return np.array([(-126.0, -126.0, z) for z in z_mm])


def sweeps(folder: Path, name: str, shift_mm: float) -> list[Path]:
    """Two sweeps under one UID, told apart by their SeriesNumber."""
    shared = {"series_uid": f"2.25.{len(name)}1", "study_uid": "2.25.5", "patient_id": name}
    paths: list[Path] = []
    for number in (1, 2):
        z_mm = shift_mm * (number - 1) + 5.0 * np.arange(6)
        extra = {"SeriesNumber": number, "FrameOfReferenceUID": "2.25.6"}
        paths += head(f"{name}{number}", folder, position_mm=heights(*z_mm), extra=extra, **shared)
    return paths


def write_two_sweeps(folder: Path) -> None:
    sweeps(folder, "sweeps", 2.5)


def write_mixed_sweeps(folder: Path) -> None:
    sweeps(folder, "mixed", 2.5)[8].unlink()


def write_stray(folder: Path) -> None:
    head("stray", folder)
    shared = {"series_uid": uid("head series", "stray"), "study_uid": uid("head study", "stray")}
    head(
        "odd", folder, n=1, position_mm=heights(40), pixel_spacing_mm=(3.0, 3.0),
        patient_id="patient stray", **shared,
    )  # fmt: skip


def write_shared_uids(folder: Path) -> None:
    sop_uids = [uid("shared", i) for i in range(6)]
    for name in ("first", "second"):
        head(name, folder, sop_uids=sop_uids)


def write_uid_per_slice(folder: Path) -> None:
    for i, path in enumerate(head("own", folder)):
        edit(path, SeriesInstanceUID=uid("own", i), FrameOfReferenceUID="2.25.7")


def write_no_uid(folder: Path) -> None:
    for path in head("unnamed", folder):
        edit(path, SeriesInstanceUID=None)


def write_gap(folder: Path) -> None:
    head("gap", folder)[2].unlink()


def write_rounded(folder: Path) -> None:
    z_mm = np.round(np.arange(24) * 0.625, 1)
    head("rounded", folder, n=24, position_mm=heights(*z_mm))


def write_noise(folder: Path) -> None:
    for i, path in enumerate(head("noise", folder)):
        turn = np.radians(0.15 * (-1) ** i)
        cosines = [1, 0, 0, 0, np.cos(turn), np.sin(turn)]
        edit(path, ImageOrientationPatient=[f"{cosine:.8f}" for cosine in cosines])


KINDS: dict[str, tuple[Callable[[Path], None], set[str], set[str]]] = {
    "two sweeps": (write_two_sweeps, {"several_volumes"}, set()),
    "mixed sweeps": (write_mixed_sweeps, set(), {"mixed_sweeps"}),
    "stray": (write_stray, {"incomplete"}, {"mixed_geometry"}),
    "shared UIDs": (write_shared_uids, {"repeated_sop_uid"}, set()),
    "UID a slice": (write_uid_per_slice, {"single_slice", "uid_per_slice"}, set()),
    "no UID": (write_no_uid, {"no_series_uid"}, set()),
    "gap": (write_gap, {"irregular_spacing"}, set()),
    "rounded": (write_rounded, {"rounded_positions"}, set()),
    "noise": (write_noise, {"inexact_orientation"}, set()),
    "single": (lambda folder: _write(folder, "single", n=1), {"single_slice"}, set()),
    "contrast": (
        lambda folder: _write(folder, "cta", extra={"SeriesDescription": "CTA"}),
        {"contrast"},
        set(),
    ),
    "derived": (
        lambda folder: _write(folder, "mip", extra={"ImageType": ["DERIVED", "SECONDARY", "MIP"]}),
        {"derived"},
        set(),
    ),
    "control": (lambda folder: _write(folder, "plain"), set(), set()),
}
"""For each kind: how it is written, the codes of what is used, those of what is rejected."""


def _write(folder: Path, name: str, **changes: Any) -> None:
    head(name, folder, **changes)


def split_codes(cells: pd.Series) -> set[str]:
    """The codes in the cells of a column `code` or `codes`."""
    return {code for cell in cells.dropna() for code in str(cell).split("|")}


def of_inspect(folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> Codes:
    main(["inspect", str(folder), "--json"])
    tree = json.loads(capsys.readouterr().out)
    used = {reason["code"] for series in tree["series"] for reason in series["reasons"]}
    return used, {rejected["code"] for rejected in tree["rejected"]}


def of_convert(folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> Codes:
    """It prints details, which `inspect` shows with their codes."""
    main(["inspect", str(folder), "--json"])
    tree = json.loads(capsys.readouterr().out)
    reasons = [reason for series in tree["series"] for reason in series["reasons"]]
    main(["convert", str(folder), "-o", str(out)])
    printed = capsys.readouterr()
    entries = [*reasons, *tree["rejected"]]
    return (
        {reason["code"] for reason in reasons if reason["detail"] in printed.out},
        {entry["code"] for entry in entries if entry["detail"] in printed.err},
    )


def of_prepare(folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> Codes:
    (out / "config.yaml").parent.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(
        f"workspace: {out}\n"
        f"source: {{kind: folder, path: {folder}}}\n"
        "prepare: {matrix: 48, pixel_mm: 4.8, folds: 3}\n"
    )
    main(["prepare", "--config", str(out / "config.yaml")])
    used = pd.read_csv(out / "inspect.csv", dtype=str)
    return split_codes(used["codes"]), split_codes(
        pd.read_csv(out / "rejected.csv", dtype=str)["code"]
    )


def of_predict(model_folder: Path) -> Callable[[Path, Path, pytest.CaptureFixture[str]], Codes]:
    def codes(folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> Codes:
        main(["predict", str(folder), "-o", str(out), "--model", str(model_folder)])
        used = split_codes(pd.read_csv(out / "series.csv", dtype=str)["codes"])
        return used, split_codes(pd.read_csv(out / "failures.csv", dtype=str)["code"])

    return codes


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_finds_the_same_codes_and_does_what_is_documented(
    kind: str, tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, used, rejected = KINDS[kind]
    folder = tmp_path / "in"
    write(folder)
    for name in ("one", "two", "three"):  # prepare needs a patient a fold
        head(name, folder / name)

    table = documented()
    readers = {
        "inspect": of_inspect,
        "convert": of_convert,
        "prepare": of_prepare,
        "predict": of_predict(model_folder),
    }
    for column, (command, read) in enumerate(readers.items()):
        found_used, found_rejected = read(folder, tmp_path / command, capsys)
        assert found_used | found_rejected == used | rejected, command
        for code in used | rejected:
            verdict = table[code][column]
            assert (code in found_used) == verdict.startswith("warning"), (command, code)
            is_rejected = not verdict.startswith("warning") or "not in" in verdict
            assert (code in found_rejected) == is_rejected, (command, code)


def test_headers_alone_give_the_same_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, (write, used, rejected) in KINDS.items():
        folder = tmp_path / kind.replace(" ", "_")
        write(folder)
        main(["inspect", str(folder), "--json", "--headers-only"])
        tree = json.loads(capsys.readouterr().out)
        found = {reason["code"] for series in tree["series"] for reason in series["reasons"]}
        assert found == used, kind
        assert {entry["code"] for entry in tree["rejected"]} == rejected, kind
