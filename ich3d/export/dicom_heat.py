"""Write heat maps as DICOM: a Parametric Map (PS3.3 A.75) for each flagged label of a series.

A map has the pixels of the source images: a frame for each slice of the series, at the slice's
position and of its size, in the source's frame of reference, and each frame refers to its slice.
Values are shares of the strongest sign in the series (`explain.explanation`), float32. Slices that
do not show the label have frames of zeros.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import DSfloat

from ich3d.core.issues import IssueCode
from ich3d.core.labels import ANY, FLAG_AT, LABELS, label_index
from ich3d.core.types import Rejected, SliceHeader, SliceKey
from ich3d.dicom.geometry import slice_thickness_mm
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.headers.read import read_file
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings
from ich3d.export import concepts
from ich3d.export.dicom_sr import document_attributes, require_highdicom, save
from ich3d.export.source_images import SourceImages, read_source_images
from ich3d.export.sr_content import ReportContent, report_content
from ich3d.prepare.head import uncrop

if TYPE_CHECKING:
    from highdicom.pm import ParametricMap

    from ich3d.inference.run import OutputWriter
    from ich3d.inference.scoring import SeriesPrediction
    from ich3d.model.folder import Model

SeriesHeat = Mapping[tuple[int, int], np.ndarray]
"""By slice index and label index a map float32 (H, W), as `explain.explanation.series_heat`."""


PLACEHOLDER_MM: Final = 1.0
"""Thickness of a single slice that states none, in mm."""


def dicom_heat_writer(folder: Path, model: "Model") -> "OutputWriter":
    """Output writer for `inference.run.predict_to_folder` that writes heat maps to `folder`.

    Raises UserError where highdicom is not installed.
    """
    from ich3d.explain.explanation import series_heat
    from ich3d.inference.run import OutputWriter

    require_highdicom()

    def write_series(prediction: "SeriesPrediction") -> tuple[Path, ...] | Rejected:
        heat = series_heat(model, prediction, slices_with_heat(prediction))
        return write_heat_maps(prediction, heat, folder, model.sha256)

    def write_study(study: Sequence["SeriesPrediction"]) -> tuple[Rejected, ...]:
        results = [write_series(prediction) for prediction in study]
        return tuple(result for result in results if isinstance(result, Rejected))

    return OutputWriter(folder, write_study)


def slices_with_heat(prediction: "SeriesPrediction") -> list[tuple[int, int]]:
    """The slices that get a heat map, as pairs of a slice index and a label index.

    They are the slices that show a label in the structured report.
    """
    prob = prediction.prob["stack"]  # (Z, K)
    is_flagged = (prob >= FLAG_AT) & (prob[:, [label_index(ANY)]] >= FLAG_AT)  # (Z, K)
    return [(int(index), int(k)) for index, k in np.argwhere(is_flagged)]


def write_heat_maps(
    prediction: "SeriesPrediction", heat: SeriesHeat, folder: Path, model_sha256: str
) -> tuple[Path, ...] | Rejected:
    """Write the Parametric Maps of one scored series.

    Args:
        prediction: The scored series; the headers of its files are read again.
        heat: The maps, by slice and label.
        folder: Gets `<volume_id>.heat.<label>.dcm` for each label with a map that is not zero
            everywhere; those of other labels, from an earlier run, are deleted.
        model_sha256: Identity of the model, reported as DeviceSerialNumber.

    Returns:
        The written paths; or Rejected, and nothing is written, where no DICOM object can refer to
        the source images, or they have no frame of reference.
    """
    content = report_content(prediction, model_sha256)
    paths = {label: folder / f"{content.volume_id}.heat.{label}.dcm" for label in LABELS}
    shown = {k for (_, k), image in heat.items() if image.any()}
    labels = [label for label in paths if label_index(label) in shown]
    for label in paths.keys() - labels:
        paths[label].unlink(missing_ok=True)
    if not labels:
        return ()

    source = read_source_images(prediction)
    if isinstance(source, Rejected):
        return source
    slices = _read_slices(prediction)
    if isinstance(slices, Rejected):
        return slices

    images = _as_single_frames(slices, source, prediction.series.acquisition.spacing_mm)
    for number, label in enumerate(labels, 1):
        pixels = _acquired_pixels(prediction, heat, label_index(label))
        parametric_map = _parametric_map(content, model_sha256, label, number, pixels, images)
        parametric_map.BodyPartExamined = "HEAD"  # without one, it would have to have a Laterality
        _name_dimensions(parametric_map, content.content_uid("OT", label, "dimensions"))
        _refer_to_frames(parametric_map, slices, source)
        save(parametric_map, source, paths[label])
    return tuple(paths[label] for label in labels)


def _read_slices(prediction: "SeriesPrediction") -> list[SliceHeader] | Rejected:
    """The header of each slice (Z,), read again; Rejected where a map cannot be placed."""
    contents = {file: read_file(file) for file in prediction.files}
    slices = []
    for file, key in zip(prediction.files, prediction.series.keys, strict=True):
        content = contents[file]
        headers = content if isinstance(content, tuple) else ()
        of_frame = [h for h in headers if isinstance(h, SliceHeader) and h.frame == key.frame]
        if not of_frame:
            return _reject(prediction, key, IssueCode.UNREADABLE, "can no longer be read")

        (header,) = of_frame
        tag = tag_text("FrameOfReferenceUID")
        if not header.frame_of_reference:
            return _reject(prediction, key, IssueCode.NO_UID, f"{tag} is missing")
        with suppress_pydicom_warnings():
            is_valid = UID(header.frame_of_reference).is_valid
        if not is_valid:
            return _reject(prediction, key, IssueCode.INVALID_UID, f"{tag} is not a valid UID")
        slices.append(header)
    return slices


def _reject(
    prediction: "SeriesPrediction", key: SliceKey, code: IssueCode, problem: str
) -> Rejected:
    paths = tuple(dict.fromkeys(key.path for key in prediction.series.keys))
    detail = f"no heat maps: {key.path}: {problem}"
    return Rejected(prediction.series.volume_id, code, detail, paths)


def _acquired_pixels(prediction: "SeriesPrediction", heat: SeriesHeat, k: int) -> np.ndarray:
    """The maps of label `k` on the pixels of the source, float32 (Z, rows, columns)."""
    series, cropping = prediction.series, prediction.series.cropping
    if cropping is None:
        raise ValueError(f"{series.volume_id} comes from a store, which does not keep its cropping")
    pixels = np.zeros((len(series), cropping.rows, cropping.columns), dtype=np.float32)
    for (index, label), image in heat.items():
        if label == k:
            pixels[index] = uncrop(image, cropping)
    return pixels


def _parametric_map(
    content: ReportContent,
    model_sha256: str,
    label: str,
    number: int,
    pixels: np.ndarray,
    images: Sequence[Dataset],
) -> "ParametricMap":
    """The map of one label, the `number`-th of its series, from `pixels` (Z, rows, columns)."""
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping

    values = RealWorldValueMapping(
        lut_label=label,
        lut_explanation=f"Grad-CAM of {label}, 1: strongest in the series",
        unit=concepts.NO_UNITS.code,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concepts.GRAD_CAM.code,
    )
    attributes = document_attributes(content, "OT", "ich3d: heat maps, for research")
    attributes |= {"sop_instance_uid": content.content_uid("OT", label), "instance_number": number}
    with suppress_pydicom_warnings():
        return ParametricMap(
            source_images=images,
            pixel_array=pixels,
            real_world_value_mappings=[values],
            voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
            contains_recognizable_visual_features=False,
            device_serial_number=model_sha256,
            content_label=label.upper(),
            content_description=f"Where the encoders saw signs of {label}",
            **attributes,
        )


def _as_single_frames(
    slices: Sequence[SliceHeader], source: SourceImages, spacing_mm: float | None
) -> list[Dataset]:
    """Each slice (Z,) as a CT image of one frame: highdicom copies its place from these.

    All have the orientation of the first: where it differs, then by what was rounded. `spacing_mm`
    is the step between slices.
    """
    # A map must have a thickness (PS3.3 C.7.6.16.2.1), a CT slice need not.
    thickness_mm = slice_thickness_mm(slices[0]) or spacing_mm or PLACEHOLDER_MM
    images = []
    for header in slices:
        image = deepcopy(source.instances[header.sop_uid])
        image.SOPClassUID = CTImageStorage
        image.FrameOfReferenceUID = header.frame_of_reference
        image.ImagePositionPatient = _decimals(header.position_mm)
        image.ImageOrientationPatient = _decimals((*slices[0].row_dir, *slices[0].col_dir))
        image.PixelSpacing = _decimals(slices[0].pixel_spacing_mm)
        (image.SliceThickness,) = _decimals([thickness_mm])
        images.append(image)
    return images


def _decimals(values: Sequence[float]) -> list[DSfloat]:
    return [DSfloat(value, auto_format=True) for value in values]


def _name_dimensions(parametric_map: "ParametricMap", dimensions_uid: str) -> None:
    """Give the dimensions a UID that is the same in every run; highdicom's is random."""
    for sequence in (
        parametric_map.DimensionOrganizationSequence,
        parametric_map.DimensionIndexSequence,
    ):
        for item in sequence:
            item.DimensionOrganizationUID = dimensions_uid


def _refer_to_frames(
    parametric_map: "ParametricMap", slices: Sequence[SliceHeader], source: SourceImages
) -> None:
    """Name the true SOP class of each source image, and its frame where it has several."""
    by_position = {tuple(map(float, _decimals(header.position_mm))): header for header in slices}
    for frame in parametric_map.PerFrameFunctionalGroupsSequence:
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        header = by_position[tuple(map(float, position))]
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        reference.ReferencedSOPClassUID = source.instances[header.sop_uid].SOPClassUID
        if header.frame is not None:
            reference.ReferencedFrameNumber = header.frame

    # Images of several frames are listed once.
    references = []
    for sop_uid, instance in source.instances.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.SOPClassUID
        reference.ReferencedSOPInstanceUID = sop_uid
        references.append(reference)
    parametric_map.SourceImageSequence = references
    parametric_map.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references
