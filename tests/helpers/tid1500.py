"""TID 1500 Measurement Report as a table (PS3.16), and functions that read a report along it.

The table is written from the standard, without highdicom, so that it can check what highdicom
writes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

MANY = 10_000


@dataclass(frozen=True)
class Row:
    """One row of a template.

    Attributes:
        relation: Relationship type to the parent, empty for the root.
        value_type: Value type of the content item.
        name: Concept name.
        least: How often the item must occur.
        most: How often it may occur.
        children: The rows below this one, in their order.
        template: Template identifier of a container, empty where it names none.
    """

    relation: str
    value_type: str
    name: Code
    least: int
    most: int
    children: tuple["Row", ...] = ()
    template: str = ""


DCM: Any = codes.DCM
SCT: Any = codes.SCT

MEASUREMENT = Row(  # TID 300
    "CONTAINS", "NUM", DCM.Probability, 1, 1,
    (
        Row("HAS CONCEPT MOD", "CODE", DCM.Derivation, 0, 1),
        Row(  # TID 320
            "INFERRED FROM", "SCOORD", SCT.Source, 0, MANY,
            (Row("SELECTED FROM", "IMAGE", SCT.Source, 1, 1),),
        ),
    ),
)  # fmt: skip
GROUP = Row(  # TID 1501, its algorithm by TID 4019
    "CONTAINS", "CONTAINER", DCM.MeasurementGroup, 1, MANY,
    (
        Row("HAS OBS CONTEXT", "TEXT", DCM.TrackingIdentifier, 1, 1),
        Row("HAS OBS CONTEXT", "UIDREF", DCM.TrackingUniqueIdentifier, 1, 1),
        Row("CONTAINS", "CODE", DCM.Finding, 1, 1),
        Row("HAS CONCEPT MOD", "CODE", SCT.FindingSite, 1, MANY),
        Row("HAS CONCEPT MOD", "TEXT", DCM.AlgorithmName, 1, 1),
        Row("HAS CONCEPT MOD", "TEXT", DCM.AlgorithmVersion, 1, 1),
        Row("HAS CONCEPT MOD", "TEXT", DCM.AlgorithmParameters, 0, MANY),
        MEASUREMENT,
        Row("CONTAINS", "IMAGE", DCM.SourceOfMeasurement, 0, MANY),
        Row("CONTAINS", "TEXT", DCM.Comment, 0, 1),  # an extension
    ),
    "1501",
)  # fmt: skip
REPORT = Row(
    "", "CONTAINER", DCM.ImagingMeasurementReport, 1, 1,
    (
        Row("HAS CONCEPT MOD", "CODE", DCM.LanguageOfContentItemAndDescendants, 0, 1),
        Row("HAS OBS CONTEXT", "CODE", DCM.ObserverType, 1, 1),
        Row("HAS OBS CONTEXT", "UIDREF", DCM.DeviceObserverUID, 1, 1),
        Row("HAS OBS CONTEXT", "TEXT", DCM.DeviceObserverName, 0, 1),
        Row("HAS OBS CONTEXT", "TEXT", DCM.DeviceObserverModelName, 0, 1),
        Row("HAS CONCEPT MOD", "CODE", DCM.ProcedureReported, 1, MANY),
        Row("CONTAINS", "CONTAINER", DCM.ImagingMeasurements, 1, 1, (GROUP,)),
    ),
    "1500",
)  # fmt: skip


def concept_name(content_item: Dataset, keyword: str = "ConceptNameCodeSequence") -> Code:
    """The concept name of a content item, or the code in another of its code sequences."""
    (code,) = content_item[keyword].value
    return Code(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)


def children_named(content_item: Dataset, name: Code) -> list[Dataset]:
    """The direct children of a content item that have the concept name `name`."""
    children = content_item.get("ContentSequence", ())
    return [child for child in children if concept_name(child) == name]


def measurement_groups(report: Dataset) -> dict[str, Dataset]:
    """The measurement groups of a report by tracking identifier, in the order of the report."""
    (measurements,) = children_named(report, DCM.ImagingMeasurements)
    groups = {}
    for group in children_named(measurements, DCM.MeasurementGroup):
        (identifier,) = children_named(group, DCM.TrackingIdentifier)
        groups[str(identifier.TextValue)] = group
    return groups


def referenced_images(content_item: Dataset) -> list[tuple[str, Any]]:
    """SOPInstanceUID and frame numbers of each image directly below a content item."""
    images = [child for child in content_item.ContentSequence if child.ValueType == "IMAGE"]
    references = [image.ReferencedSOPSequence[0] for image in images]
    return [
        (reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber"))
        for reference in references
    ]


def template_errors(content_item: Dataset, row: Row = REPORT) -> Iterator[str]:
    """Where the tree below `content_item` differs from `row` and the rows below it."""
    subject = row.name.meaning
    relation = content_item.get("RelationshipType", "")
    if relation != row.relation or content_item.ValueType != row.value_type:
        yield f"{subject}: {relation} {content_item.ValueType}"

    if row.template:
        (template,) = content_item.ContentTemplateSequence
        if (template.MappingResource, template.TemplateIdentifier) != ("DCMR", row.template):
            yield f"{subject}: template {template.TemplateIdentifier}"

    is_container = content_item.ValueType == "CONTAINER"
    if is_container and content_item.ContinuityOfContent not in ("SEPARATE", "CONTINUOUS"):
        yield f"{subject}: ContinuityOfContent"

    yield from _children_errors(content_item, row)


def _children_errors(content_item: Dataset, row: Row) -> Iterator[str]:
    """Children that the row does not have, in another order, or in a number that it forbids."""
    subject = row.name.meaning
    expected = [child.name for child in row.children]
    names = [concept_name(child) for child in content_item.get("ContentSequence", ())]

    for name in names:
        if name not in expected:
            yield f"{subject}: holds {name.meaning}"
    positions = [expected.index(name) for name in names if name in expected]
    if positions != sorted(positions):
        yield f"{subject}: out of order"

    for child_row in row.children:
        children = children_named(content_item, child_row.name)
        if not child_row.least <= len(children) <= child_row.most:
            yield f"{subject}: {len(children)} x {child_row.name.meaning}"
        for child in children:
            yield from template_errors(child, child_row)
