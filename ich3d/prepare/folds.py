"""Which patients must stay together, and the fold that each group of patients gets.

Patients who share an identical brain slice are one group: the RSNA 2019 set holds thousands of
slices that are pixel-identical under different PatientIDs. Folds are assigned by group.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASHED_BRAIN_CM2 = 10.0
"""Slices with less brain than this are not hashed: empty slices of different heads can be equal."""


def pseudonym(patient_id: str) -> str:
    """A stable name for a patient that does not contain the PatientID."""
    return "p" + hashlib.sha256(f"ich3d patient {patient_id}".encode()).hexdigest()[:12]


NOBODY: Final = pseudonym("")
"""The pseudonym of every patient whose files have no PatientID."""


def slice_hashes(hu: np.ndarray, brain_hu_cm2: np.ndarray) -> tuple[str, ...]:
    """A hash of each slice's pixels, empty where there is too little brain.

    Args:
        hu: int16 (Z, Y, X), Hounsfield units.
        brain_hu_cm2: area with the HU of brain in each slice (Z,), in square centimetres.
    """
    return tuple(
        hashlib.blake2b(image.astype("<i2").tobytes(), digest_size=16).hexdigest()
        if area > HASHED_BRAIN_CM2
        else ""
        for image, area in zip(hu, brain_hu_cm2, strict=True)
    )


def link(patients: Sequence[str], hashes: Sequence[str]) -> dict[str, str]:
    """The group of each patient: patients are linked by slices with equal hashes.

    Args:
        patients: the patient of each slice (N,).
        hashes: the hash of each slice (N,); empty ones link nobody.

    Returns:
        Group by patient. A group has the name of its first patient in alphabetical order.
    """
    names, patient = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    has_hash = np.asarray(hashes, dtype=str) != ""
    images, image = np.unique(np.asarray(hashes, dtype=str)[has_hash], return_inverse=True)

    # A graph of patients and images, with an edge where a patient has an image.
    size = len(names) + len(images)
    edges = coo_array(
        (np.ones(has_hash.sum()), (patient[has_hash], image + len(names))), shape=(size, size)
    )
    _, component = connected_components(edges, directed=False)

    first_of: dict[int, str] = {}
    return {
        name: first_of.setdefault(part, name)
        for name, part in zip(names.tolist(), component, strict=False)
    }


def assign_folds(
    bleeds: Mapping[str, np.ndarray], folds: int, rng: np.random.Generator
) -> dict[str, int]:
    """Fold of each group, by iterative stratification (Sechidis et al., ECML PKDD 2011).

    The label with the fewest unassigned groups is distributed first. Each of its groups goes to the
    fold that still needs most groups with that label, in a tie to the fold with most free places,
    then by a random order. Groups without any label come last.

    Args:
        bleeds: by group, the labels (K,) that occur in it, 0 or 1.
        folds: number of folds.
        rng: decides the order of groups and ties.
    """
    names = sorted(bleeds)
    rng.shuffle(names)
    has = np.array([bleeds[name] > 0 for name in names], dtype=float)
    has = has.reshape(len(names), -1)  # (groups, K)

    wanted = np.tile(has.sum(axis=0) / folds, (folds, 1))  # (folds, K)
    places = np.full(folds, len(names) / folds)
    tie_order = rng.permutation(folds)

    fold_of: dict[str, int] = {}
    unassigned = np.ones(len(names), dtype=bool)
    while unassigned.any():
        counts = has[unassigned].sum(axis=0)  # (K,)
        label = int(np.argmin(np.where(counts > 0, counts, np.inf))) if counts.any() else None
        with_label = has[:, label] > 0 if label is not None else True
        members = np.flatnonzero(unassigned & with_label)
        for index in members:
            need = wanted[:, label] if label is not None else places
            fold = int(np.lexsort((tie_order, -places, -need))[0])
            fold_of[names[index]] = fold
            wanted[fold] -= has[index]
            places[fold] -= 1
        unassigned[members] = False
    return fold_of


def split_validation(
    bleeds: Mapping[str, np.ndarray], share: float, rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Divide training groups into those to fit on and those for validation.

    Args:
        bleeds: by group, the labels (K,) that occur in it; they are stratified as in the folds.
        share: approximate fraction of groups for validation.
        rng: decides the draw.

    Returns:
        (training groups, validation groups), sorted. Each has at least one of two groups or more.
    """
    n_parts = min(len(bleeds), max(2, round(1 / share)))
    part_of = assign_folds(bleeds, n_parts, rng)
    training = [name for name in sorted(part_of) if part_of[name] != 0]
    validation = [name for name in sorted(part_of) if part_of[name] == 0]
    return training, validation


def subsample_groups(
    bleeds: Mapping[str, np.ndarray], count: int, rng: np.random.Generator
) -> list[str]:
    """Draw `count` groups, with the share of bleeding groups that all of them have, sorted.

    With the same random state, a larger `count` keeps the groups of a smaller one.
    """
    bleeding = [name for name in sorted(bleeds) if bleeds[name].any()]
    without = [name for name in sorted(bleeds) if not bleeds[name].any()]
    rng.shuffle(bleeding)
    rng.shuffle(without)

    n_bleeding = round(count * len(bleeding) / max(1, len(bleeds)))
    return sorted(bleeding[:n_bleeding] + without[: count - n_bleeding])
