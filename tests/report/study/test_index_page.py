"""The index of study pages: sorted, linked, and only where there are several studies."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ich3d.cli.parser import main
from ich3d.core.workspace import read_csv
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.model.folder import Model
from ich3d.report.study.index_page import INDEX, write_index
from tests.helpers.identity import IDENTITY, PATIENT_ID, SECRETS
from tests.helpers.page_tree import Element, Tree

TEXT = ("study_uid", "volume_id", "series_uid", "codes", "leads_study", "folder", "trained_on",
        "series_description", "convolution_kernel", "slice_thickness_mm", "manufacturer",
        "manufacturer_model_name", "out_of_range", "top_slices")  # fmt: skip


def rows_of(page: Path) -> list[Element]:
    return Tree(page.read_text(encoding="utf-8")).root.all("tr")[1:]


def test_several_studies_have_an_index_that_opens_each_page(
    model_folder: Path, model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    kinds = {"a": "CT head", "b": f"{IDENTITY['PatientName'].split('^')[1]} head"}
    for name, description in kinds.items():
        head = make_head(
            name, 2, patient_id=PATIENT_ID, extra={**IDENTITY, "SeriesDescription": description}
        )
        write_series(head, tmp_path / "in" / name)
    second = make_head("c", 2, study_uid=uid("head study", "a"), patient_id=PATIENT_ID)
    write_series(second, tmp_path / "in" / "c")
    out = tmp_path / "out"
    command = ["predict", str(tmp_path / "in"), "--model", str(model_folder), "--report"]
    assert main([*command, "-o", str(out)]) == 0
    html = (out / "report" / INDEX).read_text(encoding="utf-8")
    assert not any(secret in html for secret in (*SECRETS, str(tmp_path)))

    rows = rows_of(out / "report" / INDEX)
    prob = [float(str(row.all("data")[0].attributes["value"])) for row in rows]
    assert prob == sorted(prob, reverse=True)
    series = read_csv(out / "series.csv", TEXT)
    leading = series[series["leads_study"] != ""].set_index("study_uid")
    for row in rows:
        (link,) = row.all("a")
        assert (out / "report" / str(link.attributes["href"])).is_file()
        assert float(str(row.all("data")[0].attributes["value"])) == leading["prob_any"][link.words]
    (of_a,) = (row.words for row in rows if uid("head study", "a") in row.words)
    assert "and 1 more series" in of_a
    (of_b,) = (row.words for row in rows if uid("head study", "b") in row.words)
    assert "*** head" in of_b
    assert "drawn heads" in html  # why a flag of this model may mean little

    # A resumed run writes the same index, though it scores nothing.
    before = (out / "report" / INDEX).read_bytes()
    (out / "report" / INDEX).unlink()
    assert main([*command, "-o", str(out)]) == 0
    assert (out / "report" / INDEX).read_bytes() == before

    # A single study needs none, and an older one is removed.
    one_study = series[series["study_uid"] == uid("head study", "b")]
    write_index(model, one_study, out / "report")
    assert not (out / "report" / INDEX).exists()
    shutil.rmtree(out)
