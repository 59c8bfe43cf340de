"""Each command of `ich3d`: what it prints, which exit code it returns, and what it refuses."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig, PrepareConfig
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.model.folder import save_model
from ich3d.model.starter import CARD, STARTER
from ich3d.phantom import write_phantoms
from tests.helpers.command import Run, sentence, write_config
from tests.helpers.hospital import random_cases, write_frozen_model, write_hospital
from tests.helpers.networks import random_context, random_encoder
from tests.helpers.runs import copy_run, workspace_of
from tests.helpers.undecodable import truncate
from tests.helpers.zips import mark_last_member_encrypted, set_method


def test_inspect_shows_a_good_series(run: Run, good: Path) -> None:
    code, out, _ = run("inspect", good)
    assert code == 0
    assert "6 files" in out
    code, out, _ = run("inspect", good, "--json")
    assert code == 0
    assert json.loads(out)["series"][0]["n_slices"] == 6


def test_identifiers_need_an_output_that_shows_them(
    run: Run, good: Path, model_folder: Path, tmp_path: Path
) -> None:
    assert run("inspect", good, "--identifiers")[0] == 2
    code, _, err = run(
        "predict", good, "--model", model_folder, "-o", tmp_path / "out", "--identifiers"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "--identifiers needs --report" in err


def test_inspect_shows_identifiers_only_if_asked(
    run: Run, make_head: Callable[..., SeriesToWrite], good: Path
) -> None:
    patient = make_head("good").patient_id
    for words in ([], ["--json"], ["-v"]):
        _, out, err = run("inspect", good, *words)
        assert patient not in (out + err).replace(str(good), "")

    _, out, _ = run("inspect", good, "--json", "--identifiers")
    assert json.loads(out)["series"][0]["patient_id"] == patient


def test_inspect_decodes_pixels_unless_only_headers_are_wanted(run: Run, good: Path) -> None:
    path = min(good.iterdir())
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PixelData = encapsulate([b"\xff" * 64])
    ds.save_as(path)
    code, out, _ = run("inspect", good)
    assert code == 3
    assert f"undecodable: {path.name}: PixelData (7FE0,0010)" in out
    assert run("inspect", good, "--headers-only")[0] == 0
    code, out, _ = run("inspect", good, "--lenient")
    assert code == 0
    assert f"left out: {path.name}" in out


def other_files(folder: Path, ct_file: bytes) -> dict[str, str]:
    """Write files that are not read, beside each other; the sentence about each, by its name."""
    folder.mkdir(parents=True)
    (folder / "a.dcm.gz").write_bytes(gzip.compress(ct_file))
    (folder / "b.nii").write_bytes(bytes(344) + b"n+1\0" + bytes(999))
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(999))
    for name in ("deflate64", "encrypted", "inner", "damaged"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("slice", ct_file)
    set_method(folder / "deflate64.zip", 9)
    mark_last_member_encrypted(folder / "encrypted.zip")
    with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
        archive.write(folder / "inner.zip", "inner.zip")
    (folder / "inner.zip").unlink()
    damaged = (folder / "damaged.zip").read_bytes()
    (folder / "damaged.zip").write_bytes(damaged[:-20])
    return {
        "a.dcm.gz": "a DICOM file packed with gzip: unpack it with gunzip",
        "b.nii": "a NIfTI image, not DICOM: give the DICOM files of the study",
        "c.png": "a PNG picture, not DICOM: give the DICOM files of the study",
        "damaged.zip": "the zip is damaged: copy or download it again",
        "deflate64.zip": "1 member packed with Deflate64, which is not read here: unpack",
        "encrypted.zip": "1 member encrypted: unpack the zip with its password",
        "outer.zip/inner.zip": "a zip within a zip, not opened: unpack the outer zip",
    }


@pytest.mark.parametrize("command", ["inspect", "convert", "predict"])
def test_what_is_not_read_gets_one_sentence_in_every_command(
    run: Run, good: Path, tmp_path: Path, command: str
) -> None:
    sentences = other_files(tmp_path / "other", min(good.iterdir()).read_bytes())
    words = [] if command == "inspect" else ["-o", tmp_path / "out"]
    code, out, err = run(command, tmp_path / "other", *words)
    assert code == 3
    told = out + err
    for name, text in sentences.items():
        assert told.count(f"{name}: {text}") == 1, name
    assert not re.search(r"\b\w+(Error|Exception|BadZipFile|Warning)\b", told)
    assert not re.search(r"(?m)^\.:", told)


def test_each_file_that_is_not_read_says_so_when_it_is_given_alone(
    run: Run, good: Path, tmp_path: Path
) -> None:
    sentences = other_files(tmp_path / "other", min(good.iterdir()).read_bytes())
    for name, text in sentences.items():
        path = tmp_path / "other" / name.split("/")[0]
        code, _, err = run("convert", path, "-o", tmp_path / "out")
        assert code == 3
        assert err.count(f"{name}: {text}") == 1, name


@pytest.mark.parametrize("command", ["inspect", "convert", "predict"])
def test_links_that_lead_out_are_told_and_followed_where_asked(
    run: Run, make_head: Callable[..., SeriesToWrite], good: Path, tmp_path: Path, command: str
) -> None:
    write_series(make_head("other"), tmp_path / "elsewhere")
    (good / "link").symlink_to(tmp_path / "elsewhere")
    words = [] if command == "inspect" else ["-o", tmp_path / "out"]
    code, out, err = run(command, good, *words)
    assert code == 3
    sentence = "link: a link that leads out of the folder, not followed without --follow-links"
    assert (out + err).count(sentence) == 1
    code, out, err = run(command, good, *words, "--follow-links")
    assert code == 0, err
    assert sentence not in out + err


HOSTILE = b"a\n\x1b[31m/..\\b\x00c\x9b'\""


@pytest.fixture
def hostile(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Path:
    """File names and UIDs with line breaks, terminal control codes, `..`, and bytes outside UTF-8.

    One of the two series lacks a slice, the other has a truncated file.
    """
    folder = tmp_path / "in"
    names = [f"{k}\n\x1b[2J\u202e\udcff{k}.dcm" for k in range(6)]
    for name in ("gap", "bad"):
        paths = write_series(make_head(name, file_names=names), folder / f"{name}\r\n")
        for path in paths:
            uid = make_head(name).series_uid.encode()
            hostile_uid = (HOSTILE + name.encode()).ljust(len(uid), b"1")
            path.write_bytes(path.read_bytes().replace(uid, hostile_uid))
        if name == "gap":
            paths[3].unlink()
        else:
            paths[3].write_bytes(paths[3].read_bytes()[:-9])
    (folder / "note\t.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_hostile_names_and_uids_are_printed_as_escapes(
    hostile: Path, tmp_path: Path, encoding: str
) -> None:
    def command(*words: object) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "ich3d", *map(str, words)], capture_output=True, check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding, "TERM": "dumb"},
        )  # fmt: skip
        return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)

    code, table, err = command("inspect", hostile)
    assert code == 3
    assert "Traceback" not in err
    assert all(char.isprintable() for line in table.split("\n") for char in line)
    rows = ["files", "", "head", "row", "", "warning", "left out", "item", "rejected", "item"]
    assert len(table.rstrip("\n").split("\n")) == len(rows)
    code, out, _ = command("inspect", hostile, "--json")
    assert code == 3
    (series,) = json.loads(out)["series"]
    assert series["series_uid"].encode("latin-1").startswith(HOSTILE)
    assert all((hostile / path).is_file() for path in series["paths"])
    code, out, err = command("convert", hostile, "-o", tmp_path / "out", "--deskew")
    assert code == 3
    assert len(out.splitlines()) == 1
    assert "Traceback" not in err
    (written,) = (path for path in tmp_path.rglob("*.nii.gz"))
    assert written.parent == tmp_path / "out"
    assert written.name.isprintable()


def test_inspect_of_an_empty_folder_finds_no_volume(run: Run, tmp_path: Path) -> None:
    code, _, err = run("inspect", tmp_path)
    assert code == 3
    assert "Traceback" not in err


def test_predict_of_an_empty_folder_finds_no_volume(
    run: Run, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    code, out, err = run(
        "predict", tmp_path / "in", "--model", model_folder, "-o", tmp_path / "out"
    )
    assert code == 3
    assert out == ""
    assert "no head CT volume was found" in err
    assert (tmp_path / "out" / "slices.csv").is_file()


def test_a_text_file_alone_is_no_volume(run: Run, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.dcm").write_text("not an image\n" * 50)
    assert run("inspect", tmp_path / "in")[0] == 3
    code, _, err = run("predict", tmp_path / "in", "--model", model_folder, "-o", tmp_path / "out")
    assert code == 3
    assert "no head CT volume was found" in err


def test_a_text_file_beside_a_good_series_is_left_out(
    run: Run, model_folder: Path, good: Path, tmp_path: Path
) -> None:
    (good / "note.dcm").write_text("not an image\n" * 50)
    code, out, _ = run("inspect", good)
    assert code == 0
    assert "not_dicom: note.dcm" in out
    code, out, _ = run("predict", good, "--model", model_folder, "-o", tmp_path / "out")
    assert code == 0
    assert out.strip() == str(tmp_path / "out" / "slices.csv")


def test_a_truncated_file_is_named_and_rejected(
    run: Run,
    make_head: Callable[..., SeriesToWrite],
    model_folder: Path,
    good: Path,
    tmp_path: Path,
) -> None:
    broken, *_ = write_series(make_head("broken"), good / "broken")
    broken.write_bytes(broken.read_bytes()[:-1000])
    code, out, _ = run("inspect", good)
    assert code == 3
    assert "truncated_pixels: broken/0.dcm" in out
    code, out, err = run("predict", good, "--model", model_folder, "-o", tmp_path / "out")
    assert code == 3
    assert "broken/0.dcm" in err
    assert "good" not in (tmp_path / "out" / "failures.csv").read_text()
    assert len((tmp_path / "out" / "slices.csv").read_text().splitlines()) == 1 + 6


def test_predict_writes_dicom_and_names_series_without_it(
    run: Run,
    make_head: Callable[..., SeriesToWrite],
    model_folder: Path,
    good: Path,
    tmp_path: Path,
) -> None:
    """Two heads scanned upward and downward; a third has UIDs like RSNA's, which are invalid."""
    write_series(make_head("down", row_dir=(-1.0, 0.0, 0.0)), good / "down")
    foreign = make_head("foreign")
    for path, uid in zip(write_series(foreign, good / "foreign"), foreign.sop_uids, strict=True):
        invalid_uid = ("ID_" + uid.rsplit(".", 1)[1]).ljust(len(uid), "0")
        path.write_bytes(path.read_bytes().replace(uid.encode(), invalid_uid.encode()))
    code, _, err = run("predict", good, "--model", model_folder, "-o", tmp_path / "out", "--dicom")
    assert code == 0
    slices = pd.read_csv(tmp_path / "out" / "slices.csv")
    assert slices["volume_id"].nunique() == 3
    assert pd.read_csv(tmp_path / "out" / "failures.csv").empty
    incomplete = pd.read_csv(tmp_path / "out" / "incomplete.csv")
    assert incomplete[["volume_id", "output", "code"]].to_numpy().tolist() == [
        [foreign.series_uid, "dicom", "invalid_uid"]
    ]
    assert incomplete["detail"][0] in err
    assert "dicom: 1 of 3 series" in err
    assert foreign.patient_id not in err
    counts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (counts["series"], counts["dicom_series"], counts["dicom_refused"]) == (3, 2, 1)

    written = [pydicom.dcmread(path) for path in (tmp_path / "out" / "dicom").glob("*.sr.dcm")]
    assert {ds.PatientID for ds in written} == {"patient good", "patient down"}
    for ds in written:
        (study,) = ds.CurrentRequestedProcedureEvidenceSequence
        listed = [
            item.ReferencedSOPInstanceUID
            for item in study.ReferencedSeriesSequence[0].ReferencedSOPSequence
        ]
        scored = slices[slices["study_uid"] == ds.StudyInstanceUID]
        assert listed == scored["sop_uid"].tolist()  # inferior first in both


def test_heat_maps_come_with_the_dicom_results(
    run: Run, model_folder: Path, good: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, _, _ = run("predict", good, "--model", model_folder, "-o", out, "--dicom-heat")
    assert code == 0
    counts = json.loads((out / "run.json").read_text())
    assert (counts["dicom_series"], counts["dicom_heat_series"]) == (1, 1)
    assert len(list((out / "dicom").glob("*.sr.dcm"))) == 1


@pytest.mark.parametrize("option", ["--dicom", "--dicom-heat"])
def test_dicom_results_without_highdicom_are_refused_at_once(
    run: Run,
    model_folder: Path,
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)  # as if it was not installed
    code, _, err = run("predict", good, "--model", model_folder, "-o", tmp_path / "out", option)
    assert code == 2
    assert "pip install 'ich3d[dicom]'" in sentence(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["inspect", "predict"])
def test_a_path_that_does_not_exist_is_named(
    run: Run, model_folder: Path, tmp_path: Path, command: str
) -> None:
    rest = [] if command == "inspect" else ["--model", model_folder, "-o", tmp_path / "out"]
    code, out, err = run(command, tmp_path / "nowhere", *rest)
    assert (code, out) == (2, "")
    assert str(tmp_path / "nowhere") in sentence(err)


def test_an_unknown_config_key_is_named(run: Run, tmp_path: Path) -> None:
    path = write_config(tmp_path / "run.yaml", {"slices": {"encodr": "resnet18"}})
    code, _, err = run("train", "--config", path)
    assert code == 2
    assert "slices.encodr" in sentence(err)
    assert str(path) in sentence(err)


def test_an_unknown_override_is_named(run: Run, tmp_path: Path) -> None:
    path = write_config(tmp_path / "run.yaml", Config())
    code, _, err = run("prepare", "--config", path, "--set", "prepare.matrx=64")
    assert code == 2
    assert "prepare.matrx" in sentence(err)


def test_a_missing_config_is_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("train", "--config", tmp_path / "none.yaml")
    assert code == 2
    assert str(tmp_path / "none.yaml") in sentence(err)


def test_a_label_table_without_its_column_is_named(run: Run, good: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("ID,Lable\n")
    source = {"kind": "folder", "path": str(good), "labels": str(tmp_path / "labels.csv")}
    path = write_config(
        tmp_path / "run.yaml", {"workspace": str(tmp_path / "run"), "source": source}
    )
    code, _, err = run("prepare", "--config", path)
    assert code == 2
    assert "labels.csv has the columns id; a label table has the columns ID" in sentence(err)


def test_too_few_patients_for_the_folds_are_refused(run: Run, good: Path, tmp_path: Path) -> None:
    source = {"kind": "folder", "path": str(good)}
    path = write_config(
        tmp_path / "run.yaml", {"workspace": str(tmp_path / "run"), "source": source}
    )
    code, _, err = run("prepare", "--config", path)
    assert code == 2
    assert "1 patient group is too few for prepare.folds=5" in sentence(err)


def test_a_changed_model_is_named(run: Run, model_folder: Path, good: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model_folder, tmp_path / "model"))
    with (copy / "encoder" / "fold1.safetensors").open("ab") as file:
        file.write(b" ")
    code, _, err = run("predict", good, "--model", copy, "-o", tmp_path / "out")
    assert code == 2
    assert str(copy / "encoder" / "fold1.safetensors") in sentence(err)
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_has_no_report(run: Run, tmp_path: Path) -> None:
    path = write_config(tmp_path / "run.yaml", {"workspace": str(tmp_path / "run")})
    code, _, err = run("report", "--config", path)
    assert code == 2
    assert str(tmp_path / "run") in sentence(err)


def test_ablate_prints_its_table(run: Run, finished_run: Config, tmp_path: Path) -> None:
    path = write_config(tmp_path / "run.yaml", finished_run)
    code, out, _ = run("ablate", "--config", path)
    assert code == 3  # one of its series shows no head
    *table, page = out.splitlines()
    assert Path(page).is_file()
    names = [line.split("|")[1].strip() for line in table[2:]]
    assert names == [
        "base rate",
        "position only",
        "encoder",
        "encoder + stacker",
        "context",
        "context + stacker",
    ]
    written = Path(finished_run.workspace) / "ablation_run"  # named after its config
    assert written.with_suffix(".md").read_text().splitlines() == table


def test_prepare_prints_the_store_and_returns_3_for_a_rejected_series(
    run: Run, finished_run: Config, tmp_path: Path
) -> None:
    """The finished run holds a series without a head."""
    path = write_config(tmp_path / "run.yaml", finished_run)
    code, out, _ = run("prepare", "--config", path)
    assert code == 3
    assert out.strip() == str(Workspace(Path(finished_run.workspace)).store)


def test_phantom_writes_studies_and_labels(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("phantom", "-o", tmp_path / "phantoms", "--studies", 1)
    assert code == 0
    assert Path(out.strip()).is_file()
    assert list((tmp_path / "phantoms").rglob("*.dcm"))


def test_phantoms_are_of_the_scanners_that_a_config_names(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "scanners.yaml"
    config.write_text("phantom: {matrix: 48, thickness_mm: [20]}")
    code, _, _ = run("phantom", "-o", tmp_path / "out", "--studies", 1, "--config", config)
    assert code == 0
    files = list((tmp_path / "out").rglob("*.dcm"))
    assert 5 < len(files) < 12
    assert pydicom.dcmread(files[0]).Rows == 48


def test_info_prints_the_model_as_lines_or_json(run: Run, model_folder: Path) -> None:
    code, out, _ = run("info", model_folder)
    assert code == 0
    assert {"  encoder: resnet10-half", "  windows: brain, subdural, bone", "  prevalence:"} <= set(
        out.splitlines()
    )
    code, out, _ = run("info", model_folder, "--json")
    assert code == 0
    described = json.loads(out)
    assert described["folds"] == [0, 1, 2]
    assert described["held_out"].startswith("provable")


def test_the_starter_model_is_the_default(run: Run, good: Path, tmp_path: Path) -> None:
    """It is named on stderr, so that what is printed for programs stays the same."""
    code, out, err = run("predict", good, "-o", tmp_path / "out")
    assert (code, out.strip()) == (0, str(tmp_path / "out" / "slices.csv"))
    assert "research software" in sentence(err)
    assert "not a medical device" in sentence(err)
    assert str(STARTER / CARD) in sentence(err)
    sha256 = json.loads((tmp_path / "out" / "run.json").read_text())["model_sha256"]

    code, out, err = run("info", "--json")
    assert (code, json.loads(out)["model_sha256"]) == (0, sha256)
    assert "not a medical device" in sentence(err)

    code, out, err = run("explain", good, "-o", tmp_path / "explained")
    assert code == 0
    assert (tmp_path / "explained" / "explanation.csv").is_file()
    assert "not a medical device" in sentence(err)


def test_card_writes_beside_the_model(run: Run, finished_run: Config, tmp_path: Path) -> None:
    workspace = workspace_of(copy_run(finished_run, tmp_path / "run"))
    code, out, _ = run("card", workspace.model)
    assert (code, out.strip()) == (0, str(workspace.root / CARD))
    assert Path(out.strip()).is_file()

    code, _, err = run("card", workspace.model, "--evaluation", "elsewhere")
    assert code == 2
    assert "--evaluation must be NAME=CSV, got 'elsewhere'" in sentence(err)


def test_info_refuses_a_folder_that_is_no_model(run: Run, tmp_path: Path) -> None:
    code, out, err = run("info", tmp_path)
    assert (code, out) == (2, "")
    assert f"{tmp_path} is no model folder" in sentence(err)


def test_evaluate_judges_predictions_against_labels(
    run: Run, good: Path, model_folder: Path, tmp_path: Path
) -> None:
    """A labelled slice that was not predicted is told, and counts."""
    out = tmp_path / "out"
    assert run("predict", good, "--model", model_folder, "-o", out)[0] == 0
    sop_uids = pd.read_csv(out / "slices.csv", dtype={"sop_uid": str})["sop_uid"]
    ids = [f"{uid}_{label}" for uid in [*sop_uids, "1.2.3"] for label in LABELS]
    labels = pd.DataFrame({"ID": ids, "Label": [int(i % 12 in (4, 5)) for i in range(len(ids))]})
    labels.to_csv(tmp_path / "labels.csv", index=False)

    code, stdout, stderr = run("evaluate", out, "--labels", tmp_path / "labels.csv")
    assert code == 0
    assert "| stack |" in stdout
    assert str(out / "evaluation.html") in stdout
    assert "1 labelled slice without a score" in stderr
    assert (out / "evaluation.csv").is_file()

    code, _, stderr = run("evaluate", tmp_path / "none", "--labels", tmp_path / "labels.csv")
    assert code == 2
    assert "no file or folder" in stderr
    code, _, stderr = run("evaluate", tmp_path / "labels.csv", "--labels", tmp_path / "labels.csv")
    assert code == 2
    assert "is given as predictions and as labels" in sentence(stderr)
    labels_and_threshold = ("--labels", tmp_path / "labels.csv", "--threshold", "2")
    code, _, stderr = run("evaluate", out, *labels_and_threshold)
    assert code == 2
    assert "--threshold: must be above 0 and at most 1, got '2'" in stderr


def test_recalibrate_prints_its_gains_and_the_new_model(run: Run, tmp_path: Path) -> None:
    model = write_frozen_model(tmp_path / "model", ["p900"])
    out, labels = write_hospital(tmp_path / "out", model, random_cases(40, scale=2.0, shift=1.0))
    rows = labels.stack().astype(int)
    ids = [f"{sop_uid}_{label}" for sop_uid, label in rows.index]
    pd.DataFrame({"ID": ids, "Label": rows.to_numpy()}).to_csv(tmp_path / "labels.csv")
    words = ("--predictions", out, "--labels", tmp_path / "labels.csv", "-o", tmp_path / "new")

    code, printed, err = run("recalibrate", tmp_path / "model", *words)
    assert code == 0
    assert printed.startswith("| label | patients with it |")
    assert printed.splitlines()[-1] == str(tmp_path / "new")
    assert "39 patients" in err
    assert "take no part: p900" in err
    _, described, _ = run("info", tmp_path / "new")
    assert "recalibrated: on 39 patients" in described

    code, printed, err = run("recalibrate", tmp_path / "model", *words)
    assert (code, printed) == (2, "")
    assert "new holds a model: add --overwrite to replace it" in sentence(err)


def test_embeddings_of_folds_without_a_shared_network_are_refused(
    run: Run, model_folder: Path, good: Path, tmp_path: Path
) -> None:
    words = ("--model", model_folder, "-o", tmp_path / "out", "--embeddings")
    code, _, err = run("predict", good, *words)
    assert code == 2
    assert "share one frozen network" in sentence(err)
    assert not (tmp_path / "out").exists()


def test_predict_takes_a_model_of_ones_own_networks(run: Run, good: Path, tmp_path: Path) -> None:
    """Such a model knows nothing of its training data: no ranges, no prevalence."""
    encoder = random_encoder(neighbours=0)
    context = random_context(encoder.embedding_width)
    grid = PrepareConfig(matrix=48, pixel_mm=4.8)
    save_model(tmp_path / "model", encoder, context, grid=grid)
    out = tmp_path / "out"
    code, _, _ = run("predict", good, "--model", tmp_path / "model", "-o", out, "--report")
    assert code == 0
    assert len(pd.read_csv(out / "slices.csv")) == 6
    assert (out / "submission.csv").is_file()
    code, text, _ = run("info", tmp_path / "model")
    assert code == 0
    assert "held_out: not proven" in text


def test_explain_writes_a_table_and_a_figure_and_prints_a_sentence(
    run: Run, make_head: Callable[..., SeriesToWrite], model_folder: Path, tmp_path: Path
) -> None:
    head = make_head("a", n=9)
    write_series(head, tmp_path / "in")
    out, uid = tmp_path / "out", head.sop_uids[5]
    options = ("--model", model_folder, "--slice", uid, "--label", "subdural", "-o", out)
    code, printed, err = run("explain", tmp_path / "in", "-v", *options)
    assert code == 0
    csv, png, sentence_on_slice = printed.splitlines()
    assert (csv, png) == (str(out / "explanation.csv"), str(out / "explanation.png"))
    assert sentence_on_slice.startswith(f"Slice 5 ({uid}) scores 0.")

    table = pd.read_csv(csv)
    assert list(table) == ["stage", "offset_mm", "slice_index", "what", "contribution"]
    assert table["stage"].value_counts().to_dict() == {"context": 10, "stack": 1}
    assert table.loc[table["offset_mm"] == 5, "slice_index"].tolist() == [6]

    written = b"".join(path.read_bytes() for path in out.iterdir()).decode("latin-1")
    assert head.patient_id not in written + (printed + err).replace(str(tmp_path), "")


def test_explain_asks_for_one_of_several_series(
    run: Run, make_head: Callable[..., SeriesToWrite], model_folder: Path, tmp_path: Path
) -> None:
    for name in "ab":
        write_series(make_head(name, n=3), tmp_path / "in" / name)
    uid = make_head("a").series_uid
    options = ("--model", model_folder, "-o", tmp_path / "out")

    code, _, err = run("explain", tmp_path / "in", *options)
    assert code == 2
    assert "holds 2 series; name one of them" in sentence(err)
    code, _, err = run("explain", tmp_path / "in", "--series", uid[:-1], *options)
    assert code == 2
    assert f"did you mean {uid!r}" in sentence(err)
    assert not (tmp_path / "out").exists()
    assert run("explain", tmp_path / "in", "--series", uid, *options)[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "any!"), "no label is called 'any!'"),
        (("--slice", "9"), "no slice 9 in"),
        (("-o", "a_file"), "a_file is a file where a folder is needed"),
    ],
    ids=["label", "slice", "output"],
)
def test_explain_refuses_a_wrong_option(
    run: Run,
    model_folder: Path,
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("")
    code, out, err = run("explain", good, "--model", model_folder, "-o", "out", *options)
    assert (code, out) == (2, "")
    assert message in sentence(err)
    assert not Path("out").exists()


def test_explain_leaves_out_a_damaged_slice_where_it_is_asked_to(
    run: Run, make_head: Callable[..., SeriesToWrite], model_folder: Path, tmp_path: Path
) -> None:
    paths = write_series(make_head("a", n=4), tmp_path / "in")
    uid = pydicom.dcmread(paths[2]).SOPInstanceUID
    truncate(paths[1])
    options = ("--model", model_folder, "--slice", "1", "-o", tmp_path / "out")
    code, _, err = run("explain", tmp_path / "in", *options)
    assert code == 3
    assert "keep the others with --lenient" in err
    code, out, _ = run("explain", tmp_path / "in", "--lenient", *options)
    assert code == 0
    assert f"Slice 1 ({uid})" in out


def test_explain_says_why_nothing_was_scored(
    run: Run, finished_run: Config, model_folder: Path, tmp_path: Path
) -> None:
    headless = Workspace(Path(finished_run.workspace)).source("phantom") / "headless"
    (tmp_path / "empty").mkdir()
    options = ("--model", model_folder, "-o", tmp_path / "out")
    for path, message in (
        (headless, "no body of tissue as large as a head was found"),
        (tmp_path / "empty", "no head CT volume was found"),
    ):
        code, out, err = run("explain", path, *options)
        assert (code, out) == (3, "")
        assert message in err
    assert not (tmp_path / "out").exists()


def test_train_without_labels_is_refused(run: Run, tmp_path: Path) -> None:
    phantom = PhantomConfig(studies=3, matrix=64, thickness_mm=(20.0,))
    list(write_phantoms(phantom, 0, tmp_path / "images"))
    config: dict[str, object] = {
        "workspace": str(tmp_path / "run"),
        "source": {"kind": "folder", "path": str(tmp_path / "images")},
        "prepare": {"matrix": 48, "pixel_mm": 4.8, "folds": 3},
    }
    code, _, err = run("train", "--config", write_config(tmp_path / "run.yaml", config))
    assert code == 2
    assert "has a label: set source.labels to a CSV file" in err.splitlines()[-1]


def test_another_study_or_model_over_finished_results_asks(
    run: Run,
    make_head: Callable[..., SeriesToWrite],
    model_folder: Path,
    good: Path,
    tmp_path: Path,
) -> None:
    write_series(make_head("other"), tmp_path / "other")
    out = tmp_path / "out"
    words = ("--model", model_folder, "-o", out, "--report")
    assert run("predict", good, *words)[0] == 0
    assert run("predict", good, *words)[0] == 0
    (page,) = (out / "report").glob("*.html")
    table = (out / "slices.csv").read_bytes()

    for other in (("predict", tmp_path / "other", *words), ("predict", good, "-o", out)):
        code, _, err = run(*other)
        assert code == 2
        assert "add --overwrite to replace it, or name another folder" in err
        assert (out / "slices.csv").read_bytes() == table

    assert run("predict", tmp_path / "other", *words, "--overwrite")[0] == 0
    assert not page.exists()
    assert len(list((out / "report").glob("*.html"))) == 1


def test_convert_and_phantom_ask_before_they_replace(
    run: Run, make_head: Callable[..., SeriesToWrite], good: Path, tmp_path: Path
) -> None:
    assert run("convert", good, "-o", tmp_path / "nifti")[0] == 0
    assert run("convert", good, "-o", tmp_path / "nifti")[0] == 0
    head = make_head("good")
    write_series(make_head("good", hu=head.hu + 1), good)  # the same UIDs, other values
    assert "holds other voxels" in run("convert", good, "-o", tmp_path / "nifti")[2]
    assert run("convert", good, "-o", tmp_path / "nifti", "--overwrite")[0] == 0

    words = ("phantom", "-o", tmp_path / "phantoms", "--studies")
    assert run(*words, 1)[0] == 0
    assert run(*words, 2)[0] == 0
    code, _, err = run(*words, 2, "--seed", 1)
    assert code == 2
    assert "made from another seed: add --overwrite" in sentence(err)
