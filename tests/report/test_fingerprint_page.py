"""The page of a data set's fingerprint."""

import shutil
from pathlib import Path

import pytest

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_json, write_json
from ich3d.report.fingerprint_page import write_fingerprint_page
from tests.helpers.browser import browse
from tests.helpers.identity import SECRETS
from tests.helpers.page_tree import Tree


@pytest.fixture
def workspace(finished_run: Config, tmp_path: Path) -> Workspace:
    """The fingerprint of the finished run, and its contact sheets."""
    run = Workspace(Path(finished_run.workspace))
    shutil.copy(run.fingerprint, tmp_path)
    shutil.copytree(run.contact_sheets, tmp_path / "contact_sheets")
    return Workspace(tmp_path)


def test_the_page_shows_the_numbers_of_the_fingerprint(workspace: Workspace) -> None:
    tree = read_json(workspace.fingerprint)
    path = write_fingerprint_page(workspace)
    html = path.read_text(encoding="utf-8")
    page = Tree(html).root
    counts = tree["counts"]
    headline = page.by_class("headline")[0].words
    assert headline.startswith(f"{counts['slices']} slices in 7 series of 7 patients; ")
    assert headline.endswith("of 6 labelled patients bleed.")

    (fold, *_) = tree["folds"]
    cells = page.by_id("folds").table()["0"]
    assert cells[:4] == [str(fold[name]) for name in ("groups", "patients", "series", "slices")]
    assert cells[4:] == [str(fold["labels"]["patients"][label]) for label in LABELS]
    distance = page.by_id("numbers").table()["distance between slices, mm"]
    assert distance[3] == f"{tree['numbers']['slice_distance_mm']['quantiles']['50%']:g}"
    assert "no_head" in html
    assert not [secret for secret in SECRETS if secret in html]

    images = page.all("img")
    assert all(image.attributes["alt"] for image in images)
    assert page.all("a")[0].attributes["href"] == tree["contact_sheets"][0]
    assert (workspace.root / str(images[-1].attributes["src"])).is_file()
    assert "script" not in {element.tag for element in page.walk()}
    assert "http" not in html.replace("http://www.w3.org", "")


def test_equal_fingerprints_give_equal_pages(workspace: Workspace) -> None:
    pages = [write_fingerprint_page(workspace).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_a_browser_shows_the_page(workspace: Workspace, tmp_path: Path) -> None:
    page = write_fingerprint_page(workspace)
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={picture}", "--window-size=420,2000")
    assert picture.stat().st_size > 20_000


def test_data_without_labels_have_a_page_too(workspace: Workspace) -> None:
    tree = read_json(workspace.fingerprint)
    for level in tree["labels"].values():
        level["labelled"] = 0
    write_json(workspace.fingerprint, tree)
    html = write_fingerprint_page(workspace).read_text(encoding="utf-8")
    assert "no slice has a label" in html
    assert "% of each label" not in html


def test_another_file_is_no_fingerprint(workspace: Workspace) -> None:
    write_json(workspace.fingerprint, {"counts": {}})
    with pytest.raises(DataError, match=r"fingerprint\.json is no fingerprint of this version"):
        write_fingerprint_page(workspace)
