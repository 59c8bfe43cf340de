"""TID 1500 Measurement Report as a table (PS3.16), and a walk of a content tree along it."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

MANY = 10_000


@dataclass(frozen=True)
class Row:
    """One row of a template: relation to its parent, value type, concept name, how often it may stand there,
    and the rows below it. `template` is the identifier that a container gives."""

    relation: str
    value_type: str
    name: Code
    least: int
    most: int
    below: tuple["Row", ...] = ()
    template: str = ""


DCM = codes.DCM

MEASUREMENT = Row(  # TID 300
    "CONTAINS", "NUM", DCM.Probability, 1, 1, (Row("HAS CONCEPT MOD", "CODE", DCM.Derivation, 0, 1),)
)  # fmt: skip
GROUP = Row(  # TID 1501, its algorithm by TID 4019
    "CONTAINS", "CONTAINER", DCM.MeasurementGroup, 1, MANY,
    (
        Row("HAS OBS CONTEXT", "TEXT", DCM.TrackingIdentifier, 1, 1),
        Row("HAS OBS CONTEXT", "UIDREF", DCM.TrackingUniqueIdentifier, 1, 1),
        Row("CONTAINS", "CODE", DCM.Finding, 1, 1),
        Row("HAS CONCEPT MOD", "CODE", codes.SCT.FindingSite, 1, MANY),
        Row("HAS CONCEPT MOD", "TEXT", DCM.AlgorithmName, 1, 1),
        Row("HAS CONCEPT MOD", "TEXT", DCM.AlgorithmVersion, 1, 1),
        Row("HAS CONCEPT MOD", "TEXT", DCM.AlgorithmParameters, 0, MANY),
        MEASUREMENT,
        Row("CONTAINS", "IMAGE", DCM.SourceOfMeasurement, 0, MANY),
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


def named(item: Dataset, keyword: str = "ConceptNameCodeSequence") -> Code:
    """A content item's concept name, or another code in it."""
    (code,) = item[keyword].value
    return Code(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)


def below(item: Dataset, name: Code) -> list[Dataset]:
    """The content items right below `item` that bear `name`."""
    return [child for child in item.get("ContentSequence", ()) if named(child) == name]


def wrong(item: Dataset, row: Row = REPORT) -> Iterator[str]:
    """What in the tree of `item` is not as `row` and those below it say."""
    where = row.name.meaning
    if item.get("RelationshipType", "") != row.relation or item.ValueType != row.value_type:
        yield f"{where}: {item.get('RelationshipType')} {item.ValueType}"
    if row.template:
        (used,) = item.ContentTemplateSequence
        if (used.MappingResource, used.TemplateIdentifier) != ("DCMR", row.template):
            yield f"{where}: template {used.TemplateIdentifier}"
    if item.ValueType == "CONTAINER" and item.ContinuityOfContent not in ("SEPARATE", "CONTINUOUS"):
        yield f"{where}: ContinuityOfContent"
    order = [child.name for child in row.below]
    seen = [named(child) for child in item.get("ContentSequence", ())]
    for name in seen:
        if name not in order:
            yield f"{where}: holds {name.meaning}"
    places = [order.index(name) for name in seen if name in order]
    if places != sorted(places):
        yield f"{where}: out of order"
    for child in row.below:
        found = below(item, child.name)
        if not child.least <= len(found) <= child.most:
            yield f"{where}: {len(found)} x {child.name.meaning}"
        for inner in found:
            yield from wrong(inner, child)
