"""The page of a scored study: it shows what the tables say, names nobody, needs no other file, and
can be used by keyboard in a real browser."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

import ich3d
from ich3d.cli.parser import main
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.workspace import read_csv
from ich3d.dicom.origin import SeriesOrigin
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.scoring import SeriesPrediction, predict_one
from ich3d.model.folder import Model
from ich3d.report.study.page import MAX_EXPLAINED, flags_of, write_study_page
from ich3d.report.study.quality_notes import quality_notes
from tests.helpers.browser import READER_SCRIPT, browse
from tests.helpers.identity import IDENTITY, PATIENT_ID, SECRETS
from tests.helpers.page_tree import Element, Tree
from tests.helpers.performance import performance
from tests.helpers.predictions import with_bleeds


def page_of(model: Model, prediction: SeriesPrediction, out: Path) -> Element:
    path = write_study_page(model, [prediction], out)
    return Tree(path.read_text(encoding="utf-8")).root


def predict_with_report(model_folder: Path, folder: Path, *options: str) -> dict[str, str]:
    """Score the studies in `folder`/in by command; the HTML of each page by its file's name."""
    command = ["predict", str(folder / "in"), "--model", str(model_folder), "-o"]
    assert main([*command, str(folder / "out"), "--report", *options]) == 0
    pages = sorted((folder / "out" / "report").glob("2*.html"))
    return {path.stem: path.read_text(encoding="utf-8") for path in pages}


def shown_probabilities(section: Element) -> dict[str, float]:
    """The probabilities of the series in its table of labels."""
    (table,) = section.by_class("labels")
    return {
        row.all("th")[0].words: float(str(row.all("data")[0].attributes["value"]))
        for row in table.all("tr")[1:]
    }


# Written by `ich3d predict`


def test_predict_writes_a_page_for_each_study_that_agrees_with_the_table(
    model_folder: Path,
    model: Model,
    head: Path,
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
) -> None:
    shutil.copytree(head, tmp_path / "in" / "a")
    for name in "bc":
        write_series(make_head(name, 1, study_uid=uid("two series")), tmp_path / "in" / name)
    pages = predict_with_report(model_folder, tmp_path)
    table = read_csv(tmp_path / "out" / "series.csv", text=("study_uid", "volume_id"))
    assert set(pages) == set(table["study_uid"])
    assert len(table) == 3

    for study_uid, rows in table.groupby("study_uid"):
        html = pages[str(study_uid)]
        page = Tree(html).root
        sections = {
            section.all("h2")[0].words.split()[-1]: section for section in page.by_class("series")
        }
        assert set(sections) == set(rows["volume_id"])
        for row in rows.to_dict("records"):
            expected = {label: row[f"prob_{label}"] for label in LABELS}
            shown = shown_probabilities(sections[row["volume_id"]])
            assert shown == pytest.approx(expected, abs=1e-7)
        for text in (model.sha256, ich3d.__version__, "Research software, not a medical device"):
            assert text in page.words
        assert not any(secret in html for secret in (*SECRETS, str(tmp_path)))


def test_a_patient_is_named_only_on_request_and_only_by_patient_id(
    model_folder: Path, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("d", 1, patient_id=PATIENT_ID, extra=IDENTITY), tmp_path / "in")
    (html,) = predict_with_report(model_folder, tmp_path, "--identifiers").values()
    assert html.count(PATIENT_ID) == 1
    assert not any(secret in html for secret in IDENTITY.values())

    tables = [path.read_text() for path in (tmp_path / "out").glob("*.*")]
    assert tables
    assert not any(secret in table for secret in SECRETS for table in tables)


def test_series_without_a_study_uid_have_a_page_each_with_their_own_patient(
    model_folder: Path, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    for name in "ef":
        series = make_head(name, 1, patient_id=f"Owner-{name}")
        (path,) = write_series(series, tmp_path / "in" / name)
        dataset = pydicom.dcmread(path)
        del dataset.StudyInstanceUID
        dataset.save_as(path)

    pages = predict_with_report(model_folder, tmp_path, "--fast", "--identifiers")
    for name, other in ("ef", "fe"):
        html = pages[make_head(name).series_uid]
        assert f"Owner-{name}" in html
        assert f"Owner-{other}" not in html


# What it shows


def test_the_headline_says_how_many_slices_are_flagged(page: Element) -> None:
    """The model was trained on phantoms, so it cannot know what is likelier than not."""
    flagged, calm = (section.by_class("headline")[0].words for section in page.by_class("series"))
    assert flagged == (
        "2 of 9 slices reach the probability of 0.5 at which slices are flagged; the likeliest "
        "subtype is subdural, 0.875."
    )
    assert (
        "0.5 need not mean that bleeding is likelier than not: the model was trained" in page.words
    )
    assert calm == (
        "None of 9 slices is flagged; the highest probability of any bleeding is 0.125, in slice 0."
    )


def test_only_a_model_whose_figures_show_it_calls_bleeding_likely(
    model: Model, scored: SeriesPrediction, tmp_path: Path
) -> None:
    bleeds = with_bleeds(scored, (3, "subdural", 0.75))
    trusted = replace(model, performance=performance())
    words = page_of(trusted, bleeds, tmp_path).words
    assert "Bleeding is more likely than not in 1 of 9 slices" in words
    assert "need not mean" not in words
    assert "sensitivity 0.80 (0.70 to 0.90)" in words
    assert "89% (patients held out in training)" in words

    words = page_of(replace(model, performance=None), bleeds, tmp_path).words
    assert "1 of 9 slices reaches the probability of 0.5" in words
    assert words.count("is not recorded") == 2


def test_the_page_says_what_the_series_is(
    model: Model, scored: SeriesPrediction, tmp_path: Path
) -> None:
    origin = SeriesOrigin("Thin <head>", "H60s", "1.0", "GE", "Optima", "study/3")
    words = page_of(model, replace(scored, origin=origin), tmp_path).words
    assert "Thin <head>, kernel H60s, 1.0 mm thick, GE Optima" in words
    assert "Folder study/3" in words


def test_the_page_says_how_far_folds_agree_or_that_the_patient_is_known(
    model: Model, scored: SeriesPrediction, tmp_path: Path
) -> None:
    strongest = int(scored.prob["stack"][:, LABELS.index("any")].argmax())
    agreement = np.linspace(0.5, 0.75, len(scored.agreement))
    text = page_of(model, replace(scored, agreement=agreement), tmp_path).words
    assert f"3 folds on slice {strongest}: {agreement[strongest]:.2f}" in text

    unknown = np.full(len(scored.agreement), np.nan)
    known = replace(scored, agreement=unknown, is_known_patient=True)
    words = page_of(model, known, tmp_path).words
    assert "The model was trained on this patient" in words
    assert "3 folds on slice" not in words


def test_a_slice_is_flagged_for_labels_only_where_any_is_likely() -> None:
    prob = np.full(6, 0.9)
    assert set(flags_of(prob)) == set(LABELS)
    prob[LABELS.index("any")] = 0.4
    assert flags_of(prob) == ()
    prob[:] = 0.1
    prob[LABELS.index("any")] = 0.5
    assert flags_of(prob) == ("any",)


def test_every_slice_is_in_the_overview_from_inferior_to_superior(page: Element) -> None:
    overview = page.by_class("strip")[0]
    descriptions = [str(tile.attributes["aria-label"]) for tile in overview.all("li")]
    assert len(descriptions) == 9
    assert descriptions[0] == "Slice 0, z 0.0 mm: not flagged, any 0.125"
    assert descriptions[3] == "Slice 3, z 15.0 mm: flagged for any 0.750, subdural 0.750"
    assert descriptions[4] == (
        "Slice 4, z 20.0 mm: flagged for any 0.875, epidural 0.625, subdural 0.875"
    )
    assert descriptions[8].startswith("Slice 8, z 45.0 mm")
    flagged = [tile.attributes["id"] for tile in overview.by_class("flagged")]
    assert flagged == ["series1-3", "series1-4"]


def test_flagged_slices_are_explained_for_their_likeliest_subtype(page: Element) -> None:
    first, second = page.by_class("series")
    explanations = first.by_class("explanation")
    assert [explanation.all("h4")[0].words for explanation in explanations] == [
        "Slice 3: subdural 0.750",
        "Slice 4: subdural 0.875",
    ]
    assert all("The context model counts" in explanation.words for explanation in explanations)
    assert not second.by_class("explanation")
    assert "No slice is flagged, so there is none to explain." in second.words


def test_only_the_strongest_flagged_slices_are_explained(
    model: Model, scored: SeriesPrediction, tmp_path: Path
) -> None:
    bleeds = [(index, "subdural", 0.5 + 0.05 * index) for index in range(9)]
    page = page_of(model, with_bleeds(scored, *bleeds), tmp_path)
    titles = [explanation.all("h4")[0].words for explanation in page.by_class("explanation")]
    assert [title.split(":")[0] for title in titles] == [
        f"Slice {index}" for index in range(9 - MAX_EXPLAINED, 9)
    ]


def test_each_stage_has_a_curve_through_every_slice_for_each_label(page: Element) -> None:
    curves = page.by_class("series")[0].all("polyline")
    assert len(curves) == len(STAGES) * len(LABELS)
    assert {len(str(curve.attributes["points"]).split()) for curve in curves} == {9}


def test_quality_notes_are_listed(model: Model, scored: SeriesPrediction, page: Element) -> None:
    notes = [note.words for note in page.by_class("notes")[0].all("li")]
    assert notes == quality_notes(model, scored)
    assert notes


def test_the_series_that_speaks_for_the_study_says_why(
    model: Model, scored: SeriesPrediction, page: Element, tmp_path: Path
) -> None:
    assert "Speaks for the study" not in page.words
    leading = page_of(model, replace(scored, leads="soft kernel"), tmp_path)
    assert "Speaks for the study: soft kernel" in leading.words


def test_a_single_slice_has_a_page(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("b", 1), tmp_path / "in")
    (prediction,) = predict_one(model, tmp_path / "in", None).series
    page = page_of(model, prediction, tmp_path)
    assert len(page.by_class("strip")[0].all("li")) == 1
    assert "It has a single slice, so the model had no neighbours to read." in page.words


def test_a_study_uid_that_is_no_file_name_is_replaced_by_its_hash(
    model: Model, scored: SeriesPrediction, tmp_path: Path
) -> None:
    series = replace(scored.series, study_uid="../odd/uid")
    path = write_study_page(model, [with_bleeds(replace(scored, series=series))], tmp_path)
    assert path.parent == tmp_path
    assert re.fullmatch(r"[0-9a-f]{64}\.html", path.name)


def test_the_page_needs_no_other_file(study: Path, page: Element) -> None:
    html = study.read_text(encoding="utf-8")
    assert "http" not in html
    assert "@import" not in html
    assert not page.all("link", "iframe", "object", "a", "img")
    assert not [e for e in page.walk() if {"src", "href", "srcset"} & set(e.attributes)]
    assert set(re.findall(r"url\(.{0,12}", html)) == {'url("data:image/'}


def test_every_image_has_a_description(page: Element) -> None:
    images = [e for e in page.walk() if e.attributes.get("role") in ("img", "option")]
    view, tiles, panels, explained = 1, 9, 6, 2
    assert len(images) == 2 * (view + tiles + panels) + explained
    assert all(len(str(image.attributes["aria-label"])) > 20 for image in images)


# In a browser


@pytest.fixture(scope="module")
def steps(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser shows after each step of `READER_SCRIPT`."""
    folder = tmp_path_factory.mktemp("browser")
    html = study.read_text(encoding="utf-8")
    scripted = html.replace("</body>", f"{READER_SCRIPT}</body>")
    (folder / "page.html").write_text(scripted, encoding="utf-8")
    dom = browse(folder / "page.html", folder / "profile", "--dump-dom").stdout
    shown: dict[str, Any] = json.loads(Tree(dom).root.by_id("steps").text)
    return shown


def test_the_page_opens_at_the_strongest_slice(
    steps: dict[str, Any], scored: SeriesPrediction
) -> None:
    start = steps["start"]
    assert start["slice"] == "4"
    assert start["label"] == (
        "Slice 4, z 20.0 mm: flagged for any 0.875, epidural 0.625, subdural 0.875, brain window"
    )
    assert start["uid"] == scored.series.keys[4].sop_uid
    assert start["image"].startswith('url("data:image/webp')
    assert start["pressed"] == ["1 brain"]
    assert start["any"] == "0.875"


def test_arrow_keys_step_through_the_slices(
    steps: dict[str, Any], scored: SeriesPrediction
) -> None:
    for step, index in ("start", 4), ("up", 5), ("down", 3):
        shown = steps[step]
        assert shown["slice"] == str(index)
        assert shown["description"].startswith(f"Slice {index}, ")
        assert shown["uid"] == scored.series.keys[index].sop_uid
        assert shown["selected"] == [f"series1-{index}"] == [shown["active"]]
    assert len({steps[step]["position"] for step in ("start", "up", "down")}) == 3
    assert steps["down"]["x"] < steps["start"]["x"] < steps["up"]["x"]
    assert (steps["lowest"]["slice"], steps["highest"]["slice"]) == ("0", "8")


def test_number_keys_choose_the_window(steps: dict[str, Any]) -> None:
    assert steps["bone"]["label"].endswith("bone window")
    assert steps["bone"]["pressed"] == ["4 bone"]
    assert steps["bone"]["image"] != steps["down"]["image"]
    assert steps["nine"]["label"] == steps["bone"]["label"]  # there is no ninth window


def test_the_h_key_shows_the_heat_map(steps: dict[str, Any]) -> None:
    assert steps["bone"]["heat"] == "none"
    assert steps["heat"]["heat"] == "block"
    assert steps["shown"]["slice"] == "4"
    assert steps["shown"]["heat"] == "block"
    assert steps["highest"]["heatNote"] == "There is no heat map of this slice"


def test_keys_go_to_the_series_that_was_used_last(steps: dict[str, Any]) -> None:
    assert steps["second"] == ["4", "1"]
    assert steps["clicked"] == "6"


def test_every_control_is_reached_by_tab_and_outlined(steps: dict[str, Any]) -> None:
    names = [control["name"] for control in steps["controls"]]
    of_a_series = [
        "1 brain", "2 subdural", "3 soft", "4 bone", "h heat", "slices, inferior to superior",
    ]  # fmt: skip
    assert names == [*of_a_series, "show slice 3", "show slice 4", *of_a_series]
    assert all(control["reached"] and control["outlined"] for control in steps["controls"])


@pytest.mark.parametrize(("scheme", "darkest", "brightest"), [(1, 200, 255), (0, 0, 60)])
def test_the_page_renders_in_light_and_dark(
    study: Path, tmp_path: Path, scheme: int, darkest: int, brightest: int
) -> None:
    screenshot = tmp_path / "page.png"
    browse(
        study, tmp_path / "profile", f"--screenshot={screenshot}", "--window-size=900,700",
        f"--blink-settings=preferredColorScheme={scheme}",
    )  # fmt: skip
    with Image.open(screenshot) as image:
        grey = np.asarray(image.convert("L"))
    assert darkest <= grey[2, 2] <= brightest
    assert grey.std() > 10  # the page is not blank
