"""DICOMweb answers for OHIF, asked for over HTTP."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import pydicom
import pytest

from ich3d.dicom.write import SeriesToWrite, write_series
from scripts.serve_ohif import server


@pytest.fixture
def study(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> list[Path]:
    return write_series(make_head("served"), tmp_path / "study")


@pytest.fixture
def ask(study: list[Path], tmp_path: Path) -> Iterator[Callable[[str], bytes]]:
    """Asks a running server for a path."""
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "index.html").write_text("start page")
    (dist / "app.js").write_text("program")
    with server(dist, [tmp_path / "study"], port=0) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()

        def answer(path: str) -> bytes:
            with urlopen(f"http://localhost:{running.server_port}{path}") as response:
                body: bytes = response.read()
            return body

        yield answer
        running.shutdown()
        thread.join()


def test_study_series_and_headers_are_listed(
    ask: Callable[[str], bytes], study: list[Path]
) -> None:
    first = pydicom.dcmread(study[0])
    (row,) = json.loads(ask("/dicomweb/studies?limit=101"))
    assert row["0020000D"]["Value"] == [first.StudyInstanceUID]

    below = f"/dicomweb/studies/{first.StudyInstanceUID}/series"
    (series,) = json.loads(ask(below))
    assert series["0020000E"]["Value"] == [first.SeriesInstanceUID]

    headers = json.loads(ask(f"{below}/{first.SeriesInstanceUID}/metadata"))
    read = {pydicom.Dataset.from_json(header).SOPInstanceUID for header in headers}
    assert read == {pydicom.dcmread(path).SOPInstanceUID for path in study}
    assert not any("7FE00010" in header for header in headers)


def test_objects_and_frames_are_sent_as_they_are(
    ask: Callable[[str], bytes], study: list[Path]
) -> None:
    d = pydicom.dcmread(study[0])
    below = f"/dicomweb/studies/{d.StudyInstanceUID}/series/{d.SeriesInstanceUID}"
    instance = f"{below}/instances/{d.SOPInstanceUID}"
    assert study[0].read_bytes() in ask(instance)
    head, frame = ask(f"{instance}/frames/1").split(b"\r\n\r\n", 1)
    assert head == b"--part\r\nContent-Type: application/octet-stream"
    assert frame == d.PixelData + b"\r\n--part--\r\n"


def test_the_viewer_and_its_configuration_are_sent(ask: Callable[[str], bytes]) -> None:
    assert ask("/app.js") == b"program"
    assert ask("/viewer?StudyInstanceUIDs=1.2") == b"start page"
    assert b"dicomweb" in ask("/app-config.js")
