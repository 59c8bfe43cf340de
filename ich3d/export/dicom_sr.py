"""Results as DICOM: a Comprehensive 3D SR and a Key Object Selection for each scored series.

The SR follows TID 1500 Measurement Report (PS3.16): a measurement group (TID 1501) for each of the six
labels, with finding, site, the series' probability, the algorithm (TID 4019) and the slices that show it.
The Key Object Selection (TID 2010) names the flagged slices. UIDs depend on what is told and on the model,
so that the same result keeps its name from run to run; Patient and Study modules are the source's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import ich3d
from ich3d.core.errors import UserError
from ich3d.core.labels import ANY, FLAG_AT, LABELS
from ich3d.core.types import Rejected, SliceScores
from ich3d.core.workspace import replacing
from ich3d.dicom.uids import uid
from ich3d.export import concepts
from ich3d.export.evidence import Evidence, read_evidence

if TYPE_CHECKING:
    from highdicom import SOPClass
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, ObserverContext

    from ich3d.inference.run import OutputWriter
    from ich3d.inference.scoring import SeriesPrediction

_SERIES_NUMBERS: Final = {"SR": 9001, "KO": 9002}
"""Above what scanners give their series."""


@dataclass(frozen=True)
class ReportContent:
    """What the objects say of one series: `prob` of each label, and the slices that show it, lowest first,
    as frame numbers by SOPInstanceUID, empty in single-frame files. `algorithm` holds its parameters."""

    volume_id: str
    prob: Mapping[str, float]
    shown: Mapping[str, Mapping[str, list[int]]]
    algorithm: tuple[str, ...]

    def own_uid(self, *names: str) -> str:
        """A UID that depends on all that is told."""
        return uid("ich3d result", *names, repr(self), ich3d.__version__)


def require_highdicom() -> None:
    """UserError where the `dicom` extra is not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise UserError("DICOM results need highdicom: pip install 'ich3d[dicom]'") from None


def dicom_sink(folder: Path, model_sha256: str) -> "OutputWriter":
    """Objects in `folder` for each study that `pipeline.predict` scores."""
    from ich3d.inference.run import OutputWriter

    require_highdicom()

    def write(study: Sequence["SeriesPrediction"]) -> tuple[Rejected, ...]:
        results = [write_dicom_results(item, folder, model_sha256) for item in study]
        return tuple(result for result in results if isinstance(result, Rejected))

    return OutputWriter(folder, write)


def write_dicom_results(
    item: "SeriesPrediction", folder: Path, model_sha256: str
) -> tuple[Path, ...] | Rejected:
    """Write `<volume_id>.sr.dcm` and, where a slice is flagged, `<volume_id>.ko.dcm` into `folder`; their
    paths. A slice is flagged from a stack probability of `any` of `FLAG_AT` on.

    Rejected where the source's slices cannot be referred to; then nothing is written.
    """
    evidence = read_evidence(item)
    if isinstance(evidence, Rejected):
        return evidence
    told = _tell(item, model_sha256)
    sr, ko = (folder / f"{told.volume_id}.{kind}.dcm" for kind in ("sr", "ko"))
    _save(_report(told, evidence), evidence, sr)
    if not told.shown[ANY]:
        ko.unlink(missing_ok=True)  # another model's
        return (sr,)
    _save(_key_objects(told, evidence), evidence, ko)
    return sr, ko


def _tell(item: "SeriesPrediction", model_sha256: str) -> ReportContent:
    stack = item.prob["stack"]
    series = SliceScores(item.stored.volume_id, "stack", stack).series_prob
    flagged = stack[:, LABELS.index(ANY)] >= FLAG_AT
    shown: dict[str, dict[str, list[int]]] = {}
    for k, label in enumerate(LABELS):
        shown[label] = {}
        for index in np.flatnonzero(flagged & (stack[:, k] >= FLAG_AT)):
            key = item.stored.keys[index]
            shown[label].setdefault(key.sop_uid, []).extend(
                [] if key.frame is None else [key.frame]
            )
    prob = {label: round(float(series[k]), 7) for k, label in enumerate(LABELS)}
    algorithm = (
        f"model_sha256={model_sha256}",
        f"flag_at={FLAG_AT:g}",
        "Probability of a series: the maximum over its slices",
        "Source of Measurement: the slices whose probabilities of the finding and of any hemorrhage are at "
        "least flag_at",
    )
    return ReportContent(item.stored.volume_id, prob, shown, algorithm)


def _report(told: ReportContent, evidence: Evidence) -> "SOPClass":
    from highdicom import sr
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(told)),
        procedure_reported=concepts.CT_OF_HEAD.code,
        imaging_measurements=[_group(told, label, evidence) for label in LABELS],
    )
    return sr.Comprehensive3DSR(
        evidence=list(evidence.instances.values()),
        content=content,
        is_complete=True,
        coding_schemes=[
            CodingSchemeIdentificationItem(concepts.SCHEME, name="ich3d private codes")
        ],
        **_document(told, "SR", "ich3d: probabilities of hemorrhage, for research"),
    )


def _group(
    told: ReportContent, label: str, evidence: Evidence
) -> "MeasurementsAndQualitativeEvaluations":
    """One label as TID 1501 has it."""
    from highdicom import sr

    sign = concepts.SIGNS[label]
    images = [
        sr.SourceImageForMeasurementGroup(
            evidence.instances[name].SOPClassUID, name, frames or None
        )
        for name, frames in told.shown[label].items()
    ]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid("finding", told.volume_id, label), label),
        finding_type=sign.finding.code,
        finding_sites=[sr.FindingSite(sign.site.code)],
        algorithm_id=sr.AlgorithmIdentification("ich3d", ich3d.__version__, told.algorithm),
        measurements=[
            sr.Measurement(
                name=concepts.PROBABILITY.code,
                value=told.prob[label],
                unit=concepts.NO_UNITS.code,
                derivation=concepts.MAXIMUM.code,
            )
        ],
        source_images=images,
    )


def _key_objects(told: ReportContent, evidence: Evidence) -> "SOPClass":
    from highdicom import ko

    flagged = told.shown[ANY]
    images = [evidence.instances[name] for name in flagged]
    content = ko.KeyObjectSelection(
        document_title=concepts.OF_INTEREST.code,
        referenced_objects=images,
        observer_device_context=_observer(told),
        description=f"Slices flagged by ich3d {ich3d.__version__}; {'; '.join(told.algorithm[:2])}",
    )
    for reference in content.get_references():
        (image,) = reference.ReferencedSOPSequence
        if frames := flagged[image.ReferencedSOPInstanceUID]:
            image.ReferencedFrameNumber = frames
    return ko.KeyObjectSelectionDocument(
        evidence=images,
        content=content,
        **_document(told, "KO", "ich3d: flagged slices, for research"),
    )


def _observer(told: ReportContent) -> "ObserverContext":
    from highdicom import sr

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid("device", ich3d.__version__, told.algorithm[0]), name="ich3d", model_name="ich3d"
    )
    return sr.ObserverContext(sr.CodedConcept.from_code(concepts.DEVICE.code), device)


def _document(told: ReportContent, modality: str, description: str) -> dict[str, Any]:
    """What both kinds of document say of themselves."""
    return {
        "series_instance_uid": told.own_uid(modality, "series"),
        "series_number": _SERIES_NUMBERS[modality],
        "sop_instance_uid": told.own_uid(modality),
        "instance_number": 1,
        "manufacturer": "ich3d",
        "manufacturer_model_name": "ich3d",
        "software_versions": ich3d.__version__,
        "series_description": description,
    }


def _save(document: "SOPClass", evidence: Evidence, path: Path) -> None:
    evidence.copy_patient_study(document)
    with replacing(path) as partial:
        document.save_as(partial, enforce_file_format=True)
