"""pydicom remarks on odd values by warnings and in its log, and quotes them: a patient's name may be among
them."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Final

_ONE_THREAD: Final = RLock()
"""Filters of warnings belong to the process: two threads that change and restore them undo each other."""


@contextmanager
def suppress_pydicom_warnings() -> Iterator[None]:
    """Read through pydicom without its remarks: values are checked where they are used."""
    log = logging.getLogger("pydicom")
    with _ONE_THREAD, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, log.disabled = log.disabled, True
        try:
            yield
        finally:
            log.disabled = before
