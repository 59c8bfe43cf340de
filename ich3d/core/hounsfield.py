"""Fixed points of the Hounsfield scale (HU): 0 is water, -1000 is air."""

from typing import Final

OPEN_AIR_HU: Final = -1000
"""Air by the definition of the scale: what a calibrated scanner shows outside the patient."""

AIR_HU: Final = -1024
"""What padding becomes: pixels outside the scanner's circular field of view, and everything that a
resampled image shows beyond the edge of its source. It is the lowest value that scanners commonly
write (12 stored bits with a RescaleIntercept of -1024), so it reads as air under every window."""
