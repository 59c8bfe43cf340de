"""Every code of the DICOM results agrees with pydicom's dictionary, or is private."""

import re
from typing import Any

import pytest
from pydicom.sr import _concepts_dict

from ich3d.core.labels import LABELS
from ich3d.export.concepts import CODED_FINDINGS, CONCEPTS, SCHEME, Concept

DICTIONARY: dict[str, Any] = dict(_concepts_dict.concepts)
PUBLIC = [concept for concept in CONCEPTS if concept.scheme != SCHEME]
PRIVATE = [concept for concept in CONCEPTS if concept.scheme == SCHEME]


def context_groups_by_meaning(concept: Concept) -> dict[str, list[int]]:
    """The meanings of a code in pydicom's dictionary, with the context groups of each."""
    entries = [codes for codes in DICTIONARY[concept.scheme].values() if concept.value in codes]
    return {meaning: groups for codes in entries for meaning, groups in [codes[concept.value]]}


@pytest.mark.parametrize("concept", PUBLIC, ids=lambda concept: concept.value)
def test_a_public_code_has_its_meaning_and_source_in_the_dictionary(concept: Concept) -> None:
    groups_by_meaning = context_groups_by_meaning(concept)
    assert concept.meaning in groups_by_meaning
    source = re.fullmatch(r"pydicom [\d.]+, (?:CID (\d+)|no context group)", concept.source)
    assert source
    groups = groups_by_meaning[concept.meaning]
    assert int(source[1]) in groups if source[1] else groups == []


@pytest.mark.parametrize("concept", PRIVATE, ids=lambda concept: concept.value)
def test_a_private_code_is_valid_and_has_no_public_equivalent(concept: Concept) -> None:
    assert re.fullmatch(r"99[A-Z0-9]{1,14}", concept.scheme)
    assert len(concept.value) <= 16
    meanings = [meaning for codes in DICTIONARY["SCT"].values() for meaning, _ in codes.values()]
    assert meanings
    assert not [name for name in meanings if concept.meaning.lower() in name.lower()]


def test_each_label_has_its_own_pair_of_finding_and_site() -> None:
    pairs = [(coded.finding, coded.site) for coded in CODED_FINDINGS.values()]
    assert tuple(CODED_FINDINGS) == LABELS
    assert len(set(pairs)) == len(LABELS)
    assert {concept for pair in pairs for concept in pair} <= set(CONCEPTS)
