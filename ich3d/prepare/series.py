"""From decoded volumes to prepared series, in training and in inference.

A prepared series is complete in itself: what only a store needs, such as the hashes of slices, is
also computed in inference, where it costs little beside decoding. This module imports no phantoms,
sources or labels.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from ich3d.config.schema import PrepareConfig
from ich3d.core.arguments import require_type
from ich3d.core.issues import IssueCode
from ich3d.core.pseudonym import pseudonym
from ich3d.core.slice_geometry import slice_geometry
from ich3d.core.types import Acquisition, Issue, PreparedSeries, Rejected, Series, Volume
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import STRICT
from ich3d.dicom.validate import SeriesGroup, load_group
from ich3d.prepare import folds, head
from ich3d.prepare.hu_features import hu_features
from ich3d.prepare.store import preprocessing_sha256

NO_HEAD_FOUND: Final = "no body of tissue as large as a head was found"


def prepare_series(
    volume: Volume, config: PrepareConfig, policy: Policy = STRICT
) -> PreparedSeries | Rejected:
    """One decoded volume as models read it: reoriented, the head cropped, on the config's grid.

    Rejected as IMPLAUSIBLE_HU where the values do not look like HU and `policy` is strict, as
    NOT_AXIAL where the slices are not axial, as NO_HEAD where no head is found. DataError where
    `volume` is no `Volume`.
    """
    require_type("volume", volume, Volume)
    series = volume.series
    doubts = [issue for issue in volume.issues if issue.code is IssueCode.IMPLAUSIBLE_HU]
    if doubts and not policy.lenient:
        return series.reject(doubts[0])

    reoriented = head.reorient(volume)
    if isinstance(reoriented, Rejected):
        return reoriented
    center_mm = head.head_center_mm(reoriented)
    if center_mm is None:
        return series.reject(Issue(IssueCode.NO_HEAD, NO_HEAD_FOUND))
    hu = head.crop_around(reoriented, center_mm, config)

    return PreparedSeries(
        volume_id=series.volume_id,
        series_uid=series.series_uid,
        study_uid=series.study_uid,
        patient_id=pseudonym(series.patient_id),
        z_mm=reoriented.z_mm,
        keys=reoriented.keys,
        slice_hashes=folds.slice_hashes(reoriented.hu, head.brain_hu_cm2(reoriented)),
        hu_features=hu_features(hu, config.pixel_mm),
        issues=volume.issues,
        acquisition=_acquisition(series),
        preprocessing_sha256=preprocessing_sha256(config),
        files_sha256=files_digest(series),
        hu=hu,
        cropping=head.cropping(volume, center_mm, config),
    )


def refusal(volume: Volume) -> Issue | None:
    """Why `prepare_series` rejects a volume whatever the grid: not axial, or no head. None else."""
    reoriented = head.reorient(volume)
    if isinstance(reoriented, Rejected):
        return Issue(reoriented.code, f"{reoriented.detail}: predict rejects it")
    if not head.has_head(reoriented):
        return Issue(IssueCode.NO_HEAD, f"{NO_HEAD_FOUND}: predict rejects it")
    return None


def prepare_group(
    group: SeriesGroup,
    wanted: Sequence[Series],
    config: PrepareConfig,
    policy: Policy = STRICT,
) -> list[PreparedSeries | Rejected]:
    """Decode all volumes of one SeriesInstanceUID once, and prepare those that are wanted.

    Args:
        group: all volumes of the SeriesInstanceUID.
        wanted: those to prepare.
        config: the grid.
        policy: whether volumes are prepared whose values do not look like HU.

    Returns:
        One result for each of `wanted`, in their order. Where any volume of the group cannot be
        decoded, all are rejected, and the results are one and the same `Rejected`.
    """
    decoded = load_group(group)
    if isinstance(decoded, Rejected):
        return [decoded] * len(wanted)
    volume_of = {volume.series.volume_id: volume for volume in decoded}
    return [prepare_series(volume_of[series.volume_id], config, policy) for series in wanted]


def files_digest(series: Series) -> str:
    """Hash of names, sizes and modification times of a series' files. OSError if one is gone."""
    facts = []
    for header in series.headers:
        status = header.file.path.stat()
        facts.append((header.file.name, header.frame, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(sorted(facts, key=repr)).encode()).hexdigest()


def _acquisition(series: Series) -> Acquisition:
    """Geometry and encoding of the source images; size and pixel spacing of the first slice."""
    first = series.headers[0]
    return Acquisition(
        n_slices=len(series),
        spacing_mm=series.spacing_mm,
        largest_gap_mm=slice_geometry(series.z_mm).largest_gap_mm,
        tilt_deg=series.tilt_deg,
        is_regular=series.is_regular,
        rows=first.rows,
        columns=first.columns,
        pixel_mm=first.pixel_spacing_mm[0],
        transfer_syntaxes=tuple(sorted({header.transfer_syntax for header in series.headers})),
    )
