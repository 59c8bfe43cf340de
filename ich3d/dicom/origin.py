"""What tells the series of a study apart, as tables and pages show it: never the patient.

SeriesDescription and folder names are free text, in which people write names. So words of
PatientName, the whole PatientID and the birth date are masked wherever they stand in these texts.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from ich3d.core.pseudonym import pseudonym
from ich3d.core.types import Series, SliceHeader

MASK: Final = "***"
"""What stands in a text in place of a patient's name or ID."""

SHORTEST_NAME: Final = 3
"""Words of a name with fewer letters are not masked: "H" and "Mr" are also those of a kernel."""


@dataclass(frozen=True)
class SeriesOrigin:
    """Where a series comes from. Texts are empty where the first slice has no such attribute.

    Attributes:
        series_description: SeriesDescription.
        convolution_kernel: ConvolutionKernel.
        slice_thickness_mm: SliceThickness, as text.
        manufacturer: Manufacturer.
        manufacturer_model_name: ManufacturerModelName.
        folder: the deepest folder that holds all its files, relative to the searched one; `.` is
            the searched folder itself.
    """

    series_description: str = ""
    convolution_kernel: str = ""
    slice_thickness_mm: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    folder: str = ""

    @property
    def scanner(self) -> str:
        """Manufacturer and model; a maker whose name begins the model's is not repeated."""
        maker, model = self.manufacturer, self.manufacturer_model_name
        if model and model.lower().startswith(maker.lower()):
            return model
        return f"{maker} {model}".strip()

    @property
    def sentence(self) -> str:
        """Description, kernel, thickness and scanner, as far as they are known; without folder."""
        thickness = f"{self.slice_thickness_mm} mm thick" if self.slice_thickness_mm else ""
        kernel = f"kernel {self.convolution_kernel}" if self.convolution_kernel else ""
        return ", ".join(filter(None, (self.series_description, kernel, thickness, self.scanner)))


def series_origin(series: Series) -> SeriesOrigin:
    """Where `series` comes from, by the header of its first slice and the names of its files."""
    first = series.headers[0]
    secret = _secret_words(first)

    def shown(text: str) -> str:
        return secret.sub(MASK, _decoded(text)) if secret else _decoded(text)

    return SeriesOrigin(
        series_description=shown(first.series_description),
        convolution_kernel=shown(first.kernel),
        slice_thickness_mm=first.thickness,
        manufacturer=shown(first.manufacturer),
        manufacturer_model_name=shown(first.manufacturer_model_name),
        folder=shown(_folder(series)),
    )


def without_patient(header: SliceHeader) -> SliceHeader:
    """`header` as it may be kept in a file: with the pseudonym as PatientID, without name and birth
    date, and with these masked in descriptions.
    """
    secret = _secret_words(header)

    def masked(text: str) -> str:
        return secret.sub(MASK, text) if secret else text

    return replace(
        header,
        patient_id=pseudonym(header.patient_id),
        patient_name="",
        birth_date="",
        series_description=masked(header.series_description),
        protocol_name=masked(header.protocol_name),
        study_description=masked(header.study_description),
    )


def _folder(series: Series) -> str:
    """The deepest folder that holds all files of the series."""
    return os.path.commonpath([PurePosixPath(path).parent for path in series.paths]) or "."


def _secret_words(header: SliceHeader) -> re.Pattern[str] | None:
    """A pattern for what names the patient, as whole words; None where nothing does."""
    name = re.split(r"[\W\d_]+", _decoded(header.patient_name))
    words = [word for word in name if len(word) >= SHORTEST_NAME]
    exact = [text for text in (header.patient_id, header.birth_date) if len(text) > 1]
    secrets = sorted({*words, *exact}, key=len, reverse=True)
    if not secrets:
        return None
    pattern = "|".join(map(re.escape, secrets))
    return re.compile(rf"(?<![^\W_])(?:{pattern})(?![^\W_])", re.IGNORECASE)


def _decoded(text: str) -> str:
    """A header's text, whose bytes were read as Latin-1, as UTF-8 where it is that."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
