"""Write predictions as DICOM: a Comprehensive 3D SR and a Key Object Selection for each series.

The SR follows TID 1500 Measurement Report (PS3.16). It has one measurement group (TID 1501) for
each of the six labels, with the finding, its site, the probability of the series, the algorithm
(TID 4019) and the slices that show the finding. The probability is inferred from the outline of
the slice that has it: viewers such as OHIF show no measurement without coordinates. The Key Object
Selection (TID 2010) lists the flagged slices.

The UIDs of both objects are hashes of their content and of the model, so equal results have equal
UIDs in every run. The Patient and Study modules are copied from the source images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import ich3d
from ich3d.core.errors import UserError
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected
from ich3d.core.workspace import replacing
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings
from ich3d.dicom.uids import uid
from ich3d.export import concepts
from ich3d.export.source_images import SourceImages, read_source_images, store_texts
from ich3d.export.sr_content import ReportContent, report_content

if TYPE_CHECKING:
    from highdicom import SOPClass
    from highdicom.sr import (
        CoordinatesForMeasurement,
        MeasurementsAndQualitativeEvaluations,
        ObserverContext,
    )

    from ich3d.inference.run import OutputWriter
    from ich3d.inference.scoring import SeriesPrediction

_LEADS: Final = ", lead series"
"""Ends the SeriesDescription for the series that speaks for its study: viewers list it so. The
whole text may have 64 characters (PS3.5 6.2, VR LO)."""

_SERIES_NUMBERS: Final = {"SR": 9001, "KO": 9002, "OT": 9003}
"""SeriesNumber by Modality, above the numbers that scanners use."""


def require_highdicom() -> None:
    """Raise UserError where highdicom, the `dicom` extra, is not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise UserError("DICOM results need highdicom: pip install 'ich3d[dicom]'") from None


def dicom_writer(folder: Path, model_sha256: str) -> "OutputWriter":
    """Output writer for `inference.run.predict_to_folder` that writes DICOM objects to `folder`.

    Raises UserError where highdicom is not installed.
    """
    from ich3d.inference.run import OutputWriter

    require_highdicom()

    def write_study(study: Sequence["SeriesPrediction"]) -> tuple[Rejected, ...]:
        results = [write_dicom_results(series, folder, model_sha256) for series in study]
        return tuple(result for result in results if isinstance(result, Rejected))

    return OutputWriter(folder, write_study)


def write_dicom_results(
    prediction: "SeriesPrediction", folder: Path, model_sha256: str
) -> tuple[Path, ...] | Rejected:
    """Write the DICOM objects of one scored series.

    A slice is flagged where the stack's probability of `any` is at least `core.labels.FLAG_AT`.

    Args:
        prediction: The scored series; its files are read again.
        folder: Gets `<volume_id>.sr.dcm` and, where a slice is flagged, `<volume_id>.ko.dcm`.
        model_sha256: Identity of the model, reported in both objects.

    Returns:
        The written paths; or Rejected, and nothing is written, where no DICOM object can refer to
        the source images.
    """
    source = read_source_images(prediction)
    if isinstance(source, Rejected):
        return source

    content = report_content(prediction, model_sha256)
    sr_path = folder / f"{content.volume_id}.sr.dcm"
    ko_path = folder / f"{content.volume_id}.ko.dcm"

    save(_structured_report(content, source), source, sr_path)
    if not content.flagged_slices:
        # An earlier run of another model may have flagged slices.
        ko_path.unlink(missing_ok=True)
        return (sr_path,)

    save(_key_object_selection(content, source), source, ko_path)
    return sr_path, ko_path


def _structured_report(content: ReportContent, source: SourceImages) -> "SOPClass":
    """TID 1500 Measurement Report as a Comprehensive 3D SR."""
    from highdicom import sr
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(content)),
        procedure_reported=concepts.CT_OF_HEAD.code,
        imaging_measurements=[_measurement_group(content, label, source) for label in LABELS],
    )
    private_scheme = CodingSchemeIdentificationItem(concepts.SCHEME, name="ich3d private codes")

    return sr.Comprehensive3DSR(
        evidence=list(source.instances.values()),
        content=report,
        is_complete=True,
        coding_schemes=[private_scheme],
        **document_attributes(content, "SR", "ich3d: probabilities of hemorrhage, for research"),
    )


def _measurement_group(
    content: ReportContent, label: str, source: SourceImages
) -> "MeasurementsAndQualitativeEvaluations":
    """Measurement group of one label (TID 1501)."""
    from highdicom import sr

    coded = concepts.CODED_FINDINGS[label]
    probability = sr.Measurement(
        name=concepts.PROBABILITY.code,
        value=content.series_prob[label],
        unit=concepts.NO_UNITS.code,
        derivation=concepts.MAXIMUM.code,
        referenced_coordinates=[_slice_outline(source, *content.strongest_slices[label])],
    )
    source_images = [
        sr.SourceImageForMeasurementGroup(
            source.instances[sop_uid].SOPClassUID, sop_uid, frames or None
        )
        for sop_uid, frames in content.positive_slices[label].items()
    ]

    group = sr.MeasurementsAndQualitativeEvaluations(
        # The same finding keeps its tracking UID when another model scores the series.
        tracking_identifier=sr.TrackingIdentifier(uid("finding", content.volume_id, label), label),
        finding_type=coded.finding.code,
        finding_sites=[sr.FindingSite(coded.site.code)],
        algorithm_id=sr.AlgorithmIdentification(
            "ich3d", ich3d.__version__, content.algorithm_parameters
        ),
        measurements=[probability],
        source_images=source_images,
    )
    # TID 1501 can be extended. OHIF writes comments beside a measurement, but no findings.
    group[0].ContentSequence.append(
        sr.TextContentItem(concepts.COMMENT.code, f"{label} hemorrhage", "CONTAINS")
    )
    return group


def _slice_outline(
    source: SourceImages, sop_uid: str, frame: int | None
) -> "CoordinatesForMeasurement":
    """The edges of a whole slice, as spatial coordinates of it (PS3.3 C.18.6)."""
    from highdicom import sr

    image = source.instances[sop_uid]
    right, bottom = image.Columns, image.Rows
    return sr.CoordinatesForMeasurement(
        sr.GraphicTypeValues.POLYLINE,
        np.array([(0, 0), (right, 0), (right, bottom), (0, bottom), (0, 0)], np.float32),
        sr.SourceImageForRegion(image.SOPClassUID, sop_uid, None if frame is None else [frame]),
    )


def _key_object_selection(content: ReportContent, source: SourceImages) -> "SOPClass":
    """Key Object Selection (TID 2010) of the flagged slices."""
    from highdicom import ko

    images = [source.instances[sop_uid] for sop_uid in content.flagged_slices]
    model_and_threshold = "; ".join(content.algorithm_parameters[:2])
    selection = ko.KeyObjectSelection(
        document_title=concepts.OF_INTEREST.code,
        referenced_objects=images,
        observer_device_context=_observer(content),
        description=f"Slices flagged by ich3d {ich3d.__version__}; {model_and_threshold}",
    )

    # highdicom refers to whole instances; the frames of a multi-frame file are added here.
    for reference in selection.get_references():
        (image,) = reference.ReferencedSOPSequence
        frames = content.flagged_slices[image.ReferencedSOPInstanceUID]
        if frames:
            image.ReferencedFrameNumber = frames

    return ko.KeyObjectSelectionDocument(
        evidence=images,
        content=selection,
        **document_attributes(content, "KO", "ich3d: flagged slices, for research"),
    )


def _observer(content: ReportContent) -> "ObserverContext":
    """The model as observer, a device (TID 1004)."""
    from highdicom import sr

    model_name = content.algorithm_parameters[0]
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid("device", ich3d.__version__, model_name), name="ich3d", model_name="ich3d"
    )
    return sr.ObserverContext(sr.CodedConcept.from_code(concepts.DEVICE.code), device)


def document_attributes(content: ReportContent, modality: str, description: str) -> dict[str, Any]:
    """Series and equipment attributes, as arguments of highdicom's documents."""
    return {
        "series_instance_uid": content.content_uid(modality, "series"),
        "series_number": _SERIES_NUMBERS[modality],
        "sop_instance_uid": content.content_uid(modality),
        "instance_number": 1,
        "manufacturer": "ich3d",
        "manufacturer_model_name": "ich3d",
        "software_versions": ich3d.__version__,
        "series_description": description + (_LEADS if content.leads_study else ""),
    }


def save(document: "SOPClass", source: SourceImages, path: Path) -> None:
    """Complete `document` with the source's patient and study, and write it to `path`."""
    with suppress_pydicom_warnings(), replacing(path) as partial:
        texts = source.copy_patient_study(document)
        document.save_as(partial, enforce_file_format=True)
        store_texts(partial, texts)
