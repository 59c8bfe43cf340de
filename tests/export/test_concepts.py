"""The table of codes: nothing in it is from memory."""

import re

import pytest
from pydicom.sr._concepts_dict import concepts

from ich3d.core.labels import LABELS
from ich3d.export.concepts import CONCEPTS, SCHEME, SIGNS, Concept

PUBLIC = [concept for concept in CONCEPTS if concept.scheme != SCHEME]
PRIVATE = [concept for concept in CONCEPTS if concept.scheme == SCHEME]


def known(concept: Concept) -> dict[str, list[int]]:
    """What pydicom's dictionary calls the code, and the context groups that list each meaning."""
    entries = [codes for codes in concepts[concept.scheme].values() if concept.value in codes]
    return {meaning: groups for codes in entries for meaning, groups in [codes[concept.value]]}


@pytest.mark.parametrize("concept", PUBLIC, ids=lambda concept: concept.value)
def test_a_public_code_has_this_meaning_in_the_dictionary(concept: Concept) -> None:
    meanings = known(concept)
    assert concept.meaning in meanings
    group = re.fullmatch(r"pydicom [\d.]+, (?:CID (\d+)|no context group)", concept.found_in)
    assert group
    groups = meanings[concept.meaning]
    assert int(group[1]) in groups if group[1] else groups == []


@pytest.mark.parametrize("concept", PRIVATE, ids=lambda concept: concept.value)
def test_a_private_code_fits_the_standard_and_has_no_public_twin(concept: Concept) -> None:
    assert re.fullmatch(r"99[A-Z0-9]{1,14}", concept.scheme)
    assert len(concept.value) <= 16
    public = [m for codes in concepts["SCT"].values() for m, _ in codes.values()]
    assert not [meaning for meaning in public if concept.meaning.lower() in meaning.lower()]


def test_each_label_is_said_in_its_own_way_with_codes_of_the_table() -> None:
    assert tuple(SIGNS) == LABELS
    assert len({(sign.finding, sign.site) for sign in SIGNS.values()}) == len(LABELS)
    assert {code for sign in SIGNS.values() for code in (sign.finding, sign.site)} <= set(CONCEPTS)
