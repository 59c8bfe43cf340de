"""The page of a scored study: it tells what the tables tell, names nobody, needs nothing, and is usable by
keyboard in a real browser."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

import ich3d
from ich3d.cli.parser import main
from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.windows import WINDOWS
from ich3d.core.workspace import read_csv
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.scoring import SeriesPrediction, predict_one
from ich3d.model.folder import Model
from ich3d.report.study.page import EXPLAINED, write_study_page
from ich3d.report.study.quality_notes import quality_notes
from ich3d.report.study.thumbnails import SHEET_PIXELS, Thumbnails, make_thumbnails
from tests.helpers.page_tree import Element, Tree

SECRETS = ("Secret-Patient", "Secret^Name", "19010101", "Secret-42")
IDENTITY = {
    "PatientName": SECRETS[1],
    "PatientBirthDate": SECRETS[2],
    "AccessionNumber": SECRETS[3],
}
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def head(make_head: Callable[..., SeriesToWrite], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one series of nine slices, one gap twice as wide; its files say who the patient is."""
    place = tmp_path_factory.mktemp("head")
    z_mm = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 45.0)
    position = np.array([(-126.0, -126.0, z) for z in z_mm])
    write_series(
        make_head("a", 9, position_mm=position, patient_id=SECRETS[0], extra=IDENTITY), place
    )
    return place


@pytest.fixture(scope="module")
def scored(model: Model, head: Path) -> SeriesPrediction:
    (item,) = predict_one(model, head, None).series
    return item


def bleeding(item: SeriesPrediction, *bleeds: tuple[int, str, float]) -> SeriesPrediction:
    """`item` with scores of 0.125 but for `bleeds`: slice, label, probability of it and of any."""
    prob = {
        stage: np.full((len(item.hu), len(LABELS)), 0.125, dtype=np.float32) for stage in STAGES
    }
    for z, label, value in bleeds:
        prob["stack"][z, [LABELS.index(label), LABELS.index("any")]] = value
    return replace(item, prob=prob)


@pytest.fixture(scope="module")
def study(model: Model, scored: SeriesPrediction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of two series; of the first, slices 3 and 4 bleed, and none of the second."""
    first = bleeding(scored, (3, "subdural", 0.75), (4, "subdural", 0.875), (4, "epidural", 0.625))
    first.prob["stack"][4, LABELS.index("any")] = 0.875
    return write_study_page(model, [first, bleeding(scored)], tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(study: Path) -> Element:
    return Tree(study.read_text(encoding="utf-8")).root


def of_class(element: Element, name: str) -> list[Element]:
    return [one for one in element.walk() if name in (one.attributes.get("class") or "").split()]


def words(element: Element) -> str:
    return " ".join(element.text.split())


def sections(page: Element) -> list[Element]:
    return of_class(page, "series")


def page_of(model: Model, item: SeriesPrediction, out: Path) -> Element:
    return Tree(write_study_page(model, [item], out).read_text(encoding="utf-8")).root


def test_predict_writes_a_page_a_study_that_tells_what_the_table_tells(
    model_folder: Path,
    model: Model,
    head: Path,
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
) -> None:
    shutil.copytree(head, tmp_path / "in" / "a")
    for name in "bc":
        write_series(make_head(name, 1, study_uid=uid("two series")), tmp_path / "in" / name)
    out = tmp_path / "out"
    assert (
        main(
            [
                "predict",
                str(tmp_path / "in"),
                "--model",
                str(model_folder),
                "-o",
                str(out),
                "--report",
            ]
        )
        == 0
    )
    table = read_csv(out / "series.csv", text=("study_uid", "volume_id"))
    htmls = {path.stem: path.read_text(encoding="utf-8") for path in (out / "report").iterdir()}
    assert not any(
        secret in html for secret in (*SECRETS, str(tmp_path)) for html in htmls.values()
    )
    pages = {study_uid: Tree(html).root for study_uid, html in htmls.items()}
    assert set(pages) == set(table["study_uid"])
    for study_uid, rows in table.groupby("study_uid"):
        parts = sections(pages[str(study_uid)])
        told = {words(part.all("h2")[0]).split()[-1]: part for part in parts}
        assert set(told) == set(rows["volume_id"])
        for row in rows.to_dict("records"):
            shown = {
                words(line.all("th")[0]): float(str(line.all("data")[0].attributes["value"]))
                for line in of_class(told[row["volume_id"]], "labels")[0].all("tr")[1:]
            }
            assert shown == pytest.approx(
                {label: row[f"prob_{label}"] for label in LABELS}, abs=1e-7
            )
        assert model.sha256 in pages[str(study_uid)].text
        assert ich3d.__version__ in pages[str(study_uid)].text
        assert "Research software, not a medical device" in words(pages[str(study_uid)])


def test_the_patient_is_named_where_asked_by_id_alone(
    model_folder: Path, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("d", 1, patient_id=SECRETS[0], extra=IDENTITY), tmp_path / "in")
    command = [
        "predict",
        str(tmp_path / "in"),
        "--model",
        str(model_folder),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--report", "--identifiers"]) == 0
    (written,) = (tmp_path / "out" / "report").iterdir()
    html = written.read_text(encoding="utf-8")
    assert html.count(SECRETS[0]) == 1
    assert not any(secret in html for secret in SECRETS[1:])
    tables = [path.read_text() for path in (tmp_path / "out").glob("*.*")]
    assert not any(secret in table for secret in SECRETS for table in tables)


def test_series_that_name_no_study_have_a_page_each_under_their_own_patient(
    model_folder: Path, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    for name in "ef":
        for path in write_series(
            make_head(name, 1, patient_id=f"Owner-{name}"), tmp_path / "in" / name
        ):
            ds = pydicom.dcmread(path)
            del ds.StudyInstanceUID
            ds.save_as(path)
    command = [
        "predict",
        str(tmp_path / "in"),
        "--model",
        str(model_folder),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--fast", "--report", "--identifiers"]) == 0
    pages = {
        path.stem: path.read_text(encoding="utf-8")
        for path in (tmp_path / "out" / "report").iterdir()
    }
    for name, other in ("ef", "fe"):
        html = pages[make_head(name).series_uid]
        assert f"Owner-{name}" in html
        assert f"Owner-{other}" not in html


def test_the_page_says_first_how_many_slices_are_flagged(page: Element) -> None:
    bleeds, clean = (words(of_class(part, "headline")[0]) for part in sections(page))
    assert (
        bleeds
        == "In 2 of 9 slices bleeding is likelier than not; the likeliest subtype is subdural, 0.875."
    )
    assert clean == (
        "No slice of 9 is flagged; the highest probability of any bleeding is 0.125, in slice 0."
    )


def test_every_slice_is_in_the_strip_from_below_with_its_flags(page: Element) -> None:
    said = [str(one.attributes["aria-label"]) for one in of_class(page, "strip")[0].all("li")]
    assert len(said) == 9
    assert said[0] == "Slice 0, z 0.0 mm: not flagged, any 0.125"
    assert said[3] == "Slice 3, z 15.0 mm: flagged for any 0.750, subdural 0.750"
    assert said[4] == "Slice 4, z 20.0 mm: flagged for any 0.875, epidural 0.625, subdural 0.875"
    assert said[8].startswith("Slice 8, z 45.0 mm")
    flagged = of_class(of_class(page, "strip")[0], "flagged")
    assert [one.attributes["id"] for one in flagged] == ["series1-3", "series1-4"]


def test_flagged_slices_are_explained_for_their_likeliest_subtype(page: Element) -> None:
    first, second = sections(page)
    whys = of_class(first, "why")
    assert [words(why.all("h4")[0]) for why in whys] == [
        "Slice 3: subdural 0.750",
        "Slice 4: subdural 0.875",
    ]
    assert all("The context model drew" in words(why) for why in whys)
    assert not of_class(second, "why")
    assert "No slice is flagged, so there is none to explain." in words(second)


def test_only_the_strongest_flagged_slices_are_explained(
    model: Model, scored: SeriesPrediction, tmp_path: Path
) -> None:
    strong = [(z, "subdural", 0.5 + 0.05 * z) for z in range(9)]
    whys = of_class(page_of(model, bleeding(scored, *strong), tmp_path), "why")
    assert [words(why.all("h4")[0]).split(":")[0] for why in whys] == [
        f"Slice {z}" for z in range(9 - EXPLAINED, 9)
    ]


def test_each_stage_has_a_line_through_every_slice(page: Element) -> None:
    first = sections(page)[0]
    lines = first.all("polyline")
    assert len(lines) == len(STAGES) * len(LABELS)
    points = [str(line.attributes["points"]).split() for line in lines]
    assert {len(line) for line in points} == {9}
    x = [float(point.split(",")[0]) for point in points[0]]
    np.testing.assert_allclose(np.diff(x)[-1], 2 * np.diff(x)[0], atol=0.05)  # in mm, not in slices
    (of_any,) = (line for line in lines[:3] if line.attributes["class"] == "stack")
    y = [float(point.split(",")[1]) for point in str(of_any.attributes["points"]).split()]
    assert int(np.argmin(y)) == 4  # upward on the screen


def test_what_is_odd_is_told_in_words(
    model: Model, scored: SeriesPrediction, page: Element
) -> None:
    assert scored.stored.codes == "irregular_spacing"
    assert "columns" not in scored.out_of_range
    low, _, high = model.fingerprint["ranges"]["n_slices"]
    notes = [words(note) for note in of_class(page, "notes")[0].all("li")]
    assert notes == quality_notes(model, scored)
    assert notes[0] == "The steps between its slices are uneven, or slices are missing."
    assert f"The number of slices is 9; the model was trained on {low:.4g} to {high:.4g}." in notes


def test_every_fact_and_every_code_has_words(model: Model, scored: SeriesPrediction) -> None:
    ranges = tuple(model.fingerprint["ranges"])
    stored = replace(scored.stored, codes="|".join(IssueCode), facts=dict.fromkeys(ranges, 7.0))
    notes = quality_notes(model, replace(scored, out_of_range=ranges, stored=stored))
    assert len(set(notes)) == len(IssueCode) + len(ranges)
    assert all(re.fullmatch(r"[A-Z].+\.", note) for note in notes)


def test_a_single_slice_has_a_page(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("b", 1), tmp_path / "in")
    (item,) = predict_one(model, tmp_path / "in", None).series
    root = page_of(model, item, tmp_path)
    assert len(of_class(root, "strip")[0].all("li")) == 1
    assert "It has one slice, so that nothing around it was read." in words(root)


def test_a_study_whose_uid_is_no_file_name_gets_another(
    model: Model, scored: SeriesPrediction, tmp_path: Path
) -> None:
    item = bleeding(replace(scored, stored=replace(scored.stored, study_uid="../odd/uid")))
    path = write_study_page(model, [item], tmp_path)
    assert path.parent == tmp_path
    assert re.fullmatch(r"[0-9a-f]{64}\.html", path.name)


def test_the_page_needs_nothing_outside_itself(study: Path, page: Element) -> None:
    html = study.read_text(encoding="utf-8")
    assert "http" not in html
    assert "@import" not in html
    assert not page.all("link", "iframe", "object", "a", "img")
    assert not [e for e in page.walk() if {"src", "href", "srcset"} & set(e.attributes)]
    assert set(re.findall(r"url\(.{0,12}", html)) == {'url("data:image/'}


def test_every_picture_has_words(page: Element) -> None:
    pictures = [e for e in page.walk() if e.attributes.get("role") in ("img", "option")]
    assert len(pictures) == 2 * (1 + 9 + 6) + 2
    assert all(len(str(picture.attributes["aria-label"])) > 20 for picture in pictures)


def tile(strip: Thumbnails, name: str, index: int) -> np.ndarray:
    """Grey values of a slice's tile, taken where the page takes it."""
    data = base64.b64decode(strip.sheets[name].partition(",")[2])
    sheet = np.asarray(Image.open(BytesIO(data)).convert("L"))
    across, down = (float(part.rstrip("%")) / 100 for part in strip.place(index).split())
    left = round(across * (sheet.shape[1] - strip.side))
    top = round(down * (sheet.shape[0] - strip.side))
    return sheet[top : top + strip.side, left : left + strip.side]


@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_a_slice_lies_on_the_sheet_where_its_place_says(count: int) -> None:
    levels = np.linspace(0, 80, count)
    hu = np.broadcast_to(levels[:, None, None], (count, 32, 32)).astype(np.int16)
    strip = make_thumbnails(hu)
    for name in strip.sheets:
        for index in range(count):
            wanted = 255 * WINDOWS[name].apply(hu[index])[0, 0]
            assert abs(float(tile(strip, name, index)[4:-4, 4:-4].mean()) - wanted) < 4, (
                name,
                index,
            )


def test_a_long_series_has_smaller_tiles() -> None:
    strip = make_thumbnails(np.zeros((300, 96, 96), dtype=np.int16))
    assert strip.side == 93
    assert 300 * strip.side**2 <= SHEET_PIXELS
    assert make_thumbnails(np.zeros((34, 96, 96), dtype=np.int16)).side == 96


def test_forty_noisy_slices_stay_small() -> None:
    rng = np.random.default_rng(0)
    strip = make_thumbnails((rng.normal(35, 5, (40, 192, 192))).astype(np.int16))
    assert sum(map(len, strip.sheets.values())) < 3_000_000


# In a browser

DRIVER = """
<pre id="told"></pre>
<script>
const told = {};
const press = (key, target = document.body) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const look = (n = 1) => {
  const part = document.getElementById(`series${n}`);
  const view = part.querySelector(".view");
  const strip = part.querySelector(".strip");
  return {
    slice: part.dataset.slice,
    said: part.querySelector(".said").textContent,
    label: view.getAttribute("aria-label"),
    place: getComputedStyle(view).backgroundPosition,
    picture: getComputedStyle(view).backgroundImage.slice(0, 400),
    heat: getComputedStyle(view.querySelector(".heat")).display,
    ofHeat: part.querySelector(".of-heat").textContent,
    uid: part.querySelector(".uid").textContent,
    here: Number(part.querySelector("line.here").getAttribute("x1")),
    any: part.querySelector("[data-stage=stack][data-label='5']").textContent,
    selected: [...strip.querySelectorAll("[aria-selected=true]")].map((tile) => tile.id),
    active: strip.getAttribute("aria-activedescendant"),
    pressed: [...part.querySelectorAll("[aria-pressed=true]")].map((button) => button.textContent.trim()),
  };
};
const strips = document.querySelectorAll(".strip");
told.start = look();
press("ArrowRight"); told.up = look();
press("ArrowLeft"); press("ArrowLeft"); told.down = look();
press("4"); told.bone = look();
press("h"); told.heat = look();
press("9"); told.nine = look();
strips[0].focus(); press("Home", strips[0]); press("ArrowLeft"); told.lowest = look();
press("End", strips[0]); press("ArrowRight"); told.highest = look();
document.querySelector("[data-to='4']").click(); told.shown = look();
strips[1].focus(); press("ArrowRight"); told.second = [look(1).slice, look(2).slice];
strips[1].querySelectorAll("li")[6].click(); told.clicked = look(2).slice;
told.controls = [...document.querySelectorAll("button, [tabindex]")].map((control) => {
  control.focus();
  const style = getComputedStyle(control);
  return {
    name: control.getAttribute("aria-label") || control.textContent.trim(),
    reached: document.activeElement === control && control.tabIndex === 0,
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
  };
});
document.getElementById("told").textContent = JSON.stringify(told);
</script>
"""


def browse(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open `page` in a headless browser; it must say nothing on its console."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--enable-logging=stderr", "--v=0", f"--user-data-dir={profile}", *options, page.as_uri(),
        ],
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    return done


@pytest.fixture(scope="module")
def told(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser shows after each of the driver's steps."""
    place = tmp_path_factory.mktemp("driven")
    html = study.read_text(encoding="utf-8")
    (place / "page.html").write_text(html.replace("</body>", f"{DRIVER}</body>"), encoding="utf-8")
    dom = browse(place / "page.html", place / "profile", "--dump-dom").stdout
    steps: dict[str, Any] = json.loads(Tree(dom).root.by_id("told").text)
    return steps


def test_the_page_opens_at_the_strongest_slice(
    told: dict[str, Any], scored: SeriesPrediction
) -> None:
    start = told["start"]
    assert start["slice"] == "4"
    assert start["label"] == (
        "Slice 4, z 20.0 mm: flagged for any 0.875, epidural 0.625, subdural 0.875, brain window"
    )
    assert start["uid"] == scored.stored.keys[4].sop_uid
    assert start["picture"].startswith('url("data:image/webp')
    assert start["pressed"] == ["1 brain"]
    assert start["any"] == "0.875"


def test_arrow_keys_step_through_the_slices(told: dict[str, Any], scored: SeriesPrediction) -> None:
    for step, index in ("start", 4), ("up", 5), ("down", 3):
        state = told[step]
        assert state["slice"] == str(index)
        assert state["said"].startswith(f"Slice {index}, ")
        assert state["uid"] == scored.stored.keys[index].sop_uid
        assert state["selected"] == [f"series1-{index}"] == [state["active"]]
    assert len({told[step]["place"] for step in ("start", "up", "down")}) == 3
    assert told["down"]["here"] < told["start"]["here"] < told["up"]["here"]
    assert (told["lowest"]["slice"], told["highest"]["slice"]) == ("0", "8")


def test_number_keys_choose_the_window_and_h_the_heat(told: dict[str, Any]) -> None:
    assert told["bone"]["label"].endswith("bone window")
    assert told["bone"]["pressed"] == ["4 bone"]
    assert told["bone"]["picture"] != told["down"]["picture"]
    assert told["nine"]["label"] == told["bone"]["label"]  # there is no ninth window
    assert told["bone"]["heat"] == "none"
    assert told["heat"]["heat"] == "block"
    assert told["shown"]["slice"] == "4"
    assert told["shown"]["heat"] == "block"
    assert told["highest"]["ofHeat"] == "Heat: none was made of this slice"


def test_keys_go_to_the_series_that_is_in_use(told: dict[str, Any]) -> None:
    assert told["second"] == ["4", "1"]
    assert told["clicked"] == "6"


def test_every_control_is_reached_by_tab_and_seen_to_be(told: dict[str, Any]) -> None:
    names = [control["name"] for control in told["controls"]]
    one = ["1 brain", "2 subdural", "3 soft", "4 bone", "h heat", "slices, inferior to superior"]
    assert names == [*one, "show slice 3", "show slice 4", *one]
    assert all(control["reached"] and control["outlined"] for control in told["controls"]), told[
        "controls"
    ]


@pytest.mark.parametrize(("scheme", "darkest", "brightest"), [(1, 200, 255), (0, 0, 60)])
def test_light_and_dark_both_render(
    study: Path, tmp_path: Path, scheme: int, darkest: int, brightest: int
) -> None:
    picture = tmp_path / "page.png"
    browse(
        study, tmp_path / "profile", f"--screenshot={picture}", "--window-size=900,700",
        f"--blink-settings=preferredColorScheme={scheme}",
    )  # fmt: skip
    with Image.open(picture) as image:
        grey = np.asarray(image.convert("L"))
    assert darkest <= grey[2, 2] <= brightest
    assert grey.std() > 10  # there is something on it
