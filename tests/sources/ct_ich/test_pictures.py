"""Reading and pairing the JPEG images of a patient."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ich3d.sources.ct_ich.pictures import (
    IncompleteSlice,
    pair_windows,
    pictures_digest,
    read_window,
)
from tests.helpers.ct_ich import SIZE, save_slice, write_shifted_patient


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A patient with slices 1, 2 and 4."""
    for number in (1, 2, 4):
        save_slice(tmp_path, "049", number)
    return tmp_path / "Patients_CT/049"


def test_images_of_a_window_are_read_by_number(folder: Path) -> None:
    brain = read_window(folder, "brain")
    assert list(brain) == [1, 2, 4]
    assert {(image.shape, image.dtype) for image in brain.values()} == {
        ((SIZE, SIZE), np.dtype(np.uint8))
    }


def test_outlines_and_undecodable_images_are_not_read(folder: Path) -> None:
    shutil.copy(folder / "brain/2.jpg", folder / "brain/2_HGE_Seg.jpg")
    broken = folder / "brain/1.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    assert list(read_window(folder, "brain")) == [2, 4]


def test_a_slice_without_a_usable_image_is_incomplete(folder: Path) -> None:
    broken = folder / "brain/1.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    (folder / "bone/2.jpg").unlink()
    pairs, incomplete = pair_windows(
        folder, read_window(folder, "brain"), read_window(folder, "bone"), 0
    )
    assert [pair.number for pair in pairs] == [4]
    paths = folder / "brain/4.jpg", folder / "bone/4.jpg"
    assert pairs[0].jpeg_bytes == sum(path.stat().st_size for path in paths)
    assert incomplete == [
        IncompleteSlice(1, "brain", "Patients_CT/049/brain/1.jpg cannot be decoded"),
        IncompleteSlice(2, "bone", "Patients_CT/049/bone/2.jpg is missing"),
    ]


def test_a_shift_pairs_images_with_different_numbers(tmp_path: Path) -> None:
    folder = write_shifted_patient(tmp_path)
    brain, bone = read_window(folder, "brain"), read_window(folder, "bone")
    pairs, incomplete = pair_windows(folder, brain, bone, 2)
    assert [pair.number for pair in pairs] == [1, 2, 3, 4]
    assert all(pair.bone is bone[pair.number + 2] for pair in pairs)
    assert [(number, lacks) for number, lacks, _ in incomplete] == [(5, "bone"), (6, "bone")]


def test_the_digest_follows_the_files(folder: Path) -> None:
    before = pictures_digest(folder)
    assert pictures_digest(folder) == before
    os.utime(folder / "bone/4.jpg", (0, 0))
    assert pictures_digest(folder) != before
