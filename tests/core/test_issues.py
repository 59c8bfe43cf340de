"""The codes in tables are unique, sorted and plain words."""

from ich3d.core.issues import IssueCode, join


def test_codes_are_joined_in_alphabetical_order_and_once() -> None:
    codes = [IssueCode.INCOMPLETE, IssueCode.HU_CLIPPED, IssueCode.INCOMPLETE]
    assert join(codes) == "hu_clipped|incomplete"
    assert join([]) == ""


def test_the_text_of_a_code_is_its_name_in_lower_case() -> None:
    """Scripts that read the tables depend on it."""
    assert [code.value for code in IssueCode] == [name.lower() for name in IssueCode.__members__]
