"""pydicom remarks on odd values by warnings and in its log, and quotes them: a patient's name may be among
them."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unremarked() -> Iterator[None]:
    """Read through pydicom without its remarks: values are checked where they are used."""
    log = logging.getLogger("pydicom")
    before = log.disabled
    log.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
