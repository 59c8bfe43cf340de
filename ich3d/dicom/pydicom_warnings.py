"""Read with pydicom and keep its warnings off the terminal and out of logs.

pydicom warns about odd values and quotes them, and a quoted value may be the patient's name.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Final

_FILTER_LOCK: Final = RLock()
"""Warning filters belong to the process: threads that change them at once undo each other."""


@contextmanager
def suppress_pydicom_warnings() -> Iterator[None]:
    """Silence all Python warnings and pydicom's logger inside the `with` block.

    Nothing is lost by it: ich3d checks each value itself where it uses it. Only one thread at a
    time can be inside such a block; one thread may nest blocks.
    """
    logger = logging.getLogger("pydicom")

    with _FILTER_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was_disabled, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = was_disabled
