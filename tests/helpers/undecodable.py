"""Ways to make one slice of a written series unusable."""

from pathlib import Path

import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from tests.helpers.series import head_series


def truncate(path: Path) -> None:
    """Cut off the last pixels of a file."""
    path.write_bytes(path.read_bytes()[:-99])


def garble(path: Path) -> None:
    """Replace the pixels of a file by RLE data that do not decode."""
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PixelData = encapsulate([b"\xff" * 64])
    ds.save_as(path)


def remove_position(path: Path) -> None:
    """Delete ImagePositionPatient from a file."""
    ds = pydicom.dcmread(path)
    del ds.ImagePositionPatient
    ds.save_as(path)


def two_kernels(folder: Path, n: int = 6, series_uid: str = "2.25.9") -> list[Path]:
    """Write two volumes of one SeriesInstanceUID to `folder`/a and `folder`/b; the files of b."""
    paths: list[Path] = []
    for name in "ab":
        series: SeriesToWrite = head_series(
            name,
            n=n,
            series_uid=series_uid,
            study_uid="2.25.8",
            patient_id="p",
            sop_uids=[uid("two kernels", series_uid, name, i) for i in range(n)],
            extra={"ConvolutionKernel": name},
        )
        paths = write_series(series, folder / name)
    return paths
