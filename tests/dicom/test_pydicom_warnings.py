"""Nothing that pydicom warns about reaches the terminal or the log: it may quote the patient."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from ich3d.dicom.index import index
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings


def test_warnings_and_log_are_silent_inside_and_restored_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("pydicom")
    with suppress_pydicom_warnings():
        warnings.warn("inside", stacklevel=1)  # an error, were warnings not suppressed
        logger.error("inside")
    logger.error("outside")
    assert [record.message for record in caplog.records] == ["outside"]
    with pytest.warns(UserWarning, match="outside"):
        warnings.warn("outside", stacklevel=1)


def test_blocks_can_be_nested() -> None:
    logger = logging.getLogger("pydicom")
    with suppress_pydicom_warnings():
        with suppress_pydicom_warnings():
            assert logger.disabled
        assert logger.disabled
    assert not logger.disabled


def test_the_log_is_restored_after_an_exception() -> None:
    with pytest.raises(KeyError), suppress_pydicom_warnings():
        raise KeyError
    assert not logging.getLogger("pydicom").disabled


def test_a_damaged_file_is_indexed_without_a_warning(
    write_stack: Callable[..., list[Path]],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """A wrong length merges PatientID with its neighbours into a value that pydicom would quote."""
    caplog.set_level("DEBUG")
    (path,) = write_stack(n=1)
    content = path.read_bytes()
    sound = b"\x02\0\x10\0UI\x14\0"
    assert sound in content
    path.write_bytes(content.replace(sound, sound[:6] + (500).to_bytes(2, "little"), 1))
    assert not index(path).series
    assert not caplog.records
    assert not recwarn.list
