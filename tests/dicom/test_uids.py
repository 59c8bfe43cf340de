"""UIDs are valid, and depend on the given names alone."""

from pydicom.uid import UID

from ich3d.dicom.uids import uid


def test_equal_names_give_an_equal_uid() -> None:
    assert uid("a", "b", 1) == uid("a", "b", 1)


def test_other_names_another_order_and_other_borders_give_another_uid() -> None:
    uids = {uid("a", "b"), uid("ab"), uid("b", "a"), uid("a", "b", 1)}
    assert len(uids) == 4


def test_uids_are_valid() -> None:
    assert all(UID(uid("a", number)).is_valid for number in range(100))
