"""Who must stay together, and which fold they go to.

Patients who share an identical brain slice are one group (RSNA holds thousands of slices that are
pixel-identical under different PatientIDs), and folds are dealt by group.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASHED_BRAIN_CM2 = 10.0


def pseudonym(patient_id: str) -> str:
    """A stable name for a patient that does not tell the PatientID."""
    return "p" + hashlib.sha256(f"ich3d patient {patient_id}".encode()).hexdigest()[:12]


def slice_hashes(hu: np.ndarray, brain_cm2: np.ndarray) -> list[str]:
    """A hash of each slice's HU (Z, Y, X); empty for slices with too little brain to tell heads apart."""
    return [
        hashlib.blake2b(image.astype("<i2").tobytes(), digest_size=16).hexdigest()
        if area > HASHED_BRAIN_CM2
        else ""
        for image, area in zip(hu, brain_cm2, strict=True)
    ]


def link(patients: Sequence[str], hashes: Sequence[str]) -> dict[str, str]:
    """Group of each patient, from one (patient, slice hash) pair a slice; named after its first patient."""
    names, patient = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    keep = np.asarray(hashes, dtype=str) != ""
    seen, image = np.unique(np.asarray(hashes, dtype=str)[keep], return_inverse=True)
    size = len(names) + len(seen)
    edges = coo_array(
        (np.ones(keep.sum()), (patient[keep], image + len(names))), shape=(size, size)
    )
    _, component = connected_components(edges, directed=False)
    first: dict[int, str] = {}
    return {
        name: first.setdefault(part, name)
        for name, part in zip(names.tolist(), component, strict=False)
    }


def assign_folds(
    bleeds: Mapping[str, np.ndarray], folds: int, rng: np.random.Generator
) -> dict[str, int]:
    """Fold of each group, from the labels (K,) that occur in it.

    Iterative stratification (Sechidis et al., ECML 2011): the label with the fewest groups still to
    place goes first, each of its groups to the fold that wants that label most; ties go to the
    emptier fold, then by lot. Groups without any label come last.
    """
    names = sorted(bleeds)
    rng.shuffle(names)
    has = np.array([bleeds[name] > 0 for name in names], dtype=float).reshape(len(names), -1)
    wanted = np.tile(has.sum(axis=0) / folds, (folds, 1))
    room = np.full(folds, len(names) / folds)
    lot = rng.permutation(folds)
    result: dict[str, int] = {}
    left = np.ones(len(names), dtype=bool)
    while left.any():
        counts = has[left].sum(axis=0)
        label = int(np.argmin(np.where(counts > 0, counts, np.inf))) if counts.any() else None
        members = np.flatnonzero(left & (has[:, label] > 0 if label is not None else True))
        for index in members:
            need = wanted[:, label] if label is not None else room
            fold = int(np.lexsort((lot, -room, -need))[0])
            result[names[index]] = fold
            wanted[fold] -= has[index]
            room[fold] -= 1
        left[members] = False
    return result


def split_validation(
    bleeds: Mapping[str, np.ndarray], share: float, rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Training groups divided in (to fit on, to hold back), the second about `share` of them and, like
    the folds, stratified on the rare labels. Of two groups or more, each side gets at least one."""
    part = assign_folds(bleeds, min(len(bleeds), max(2, round(1 / share))), rng)
    return [g for g in sorted(part) if part[g] != 0], [g for g in sorted(part) if part[g] == 0]


def subsample_groups(
    bleeds: Mapping[str, np.ndarray], count: int, rng: np.random.Generator
) -> list[str]:
    """`count` of the groups, bleeding or not as in all of them; of fewer, those that more would hold too."""
    bleeding = [name for name in sorted(bleeds) if bleeds[name].any()]
    calm = [name for name in sorted(bleeds) if not bleeds[name].any()]
    rng.shuffle(bleeding)
    rng.shuffle(calm)
    take = round(count * len(bleeding) / max(1, len(bleeds)))
    return sorted(bleeding[:take] + calm[: count - take])
