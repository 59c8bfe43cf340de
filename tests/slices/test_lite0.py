"""EfficientNet-Lite0 and its ImageNet weights: photographs are recognised."""

from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from ich3d.config.schema import SlicesConfig
from ich3d.core.errors import ConfigError
from ich3d.slices import lite0
from ich3d.slices.encoder import SliceEncoder, frozen_encoder, load_start_weights
from ich3d.slices.lite0 import (
    PACKAGE,
    PHOTO_SCALE,
    WEIGHTS_FILE,
    EfficientNetLite0,
    imagenet_tensors,
)
from ich3d.training.weights import read_tensors

LITE0 = SlicesConfig(
    encoder="efficientnet-lite0",
    weights="imagenet",
    windows=("brain", "blood", "soft"),
    neighbours=0,
    symmetry=False,
)
PALACE, DAISY = 698, 985
"""Classes of ImageNet, by their usual numbers."""


def package_file() -> Path:
    """The file of weights in the package."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / WEIGHTS_FILE


@pytest.mark.parametrize(("photo", "expected"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_photographs_are_recognised(photo: str, expected: int) -> None:
    """scikit-learn's two, as windows give them: from -0.5 to 0.5."""
    network = EfficientNetLite0(3).eval()
    network.load_state_dict(imagenet_tensors())
    image = torch.from_numpy(load_sample_image(photo).astype(np.float32) / 255 - 0.5)
    image = torch.nn.functional.interpolate(
        image.permute(2, 0, 1)[None], size=(224, 336), mode="area"
    )
    classifier = read_tensors(package_file())
    with torch.no_grad():
        features = network(image[..., 56:280])  # (1, 1584)
    logits = features[:, -1280:] @ classifier["_fc.weight"].T + classifier["_fc.bias"]
    assert int(logits.argmax()) == expected


def test_three_windows_of_the_centre_slice_keep_the_colour_kernels() -> None:
    stem = read_tensors(package_file())["_conv_stem.weight"] * PHOTO_SCALE  # (32, 3, 3, 3)
    for settings in (LITE0, replace(LITE0, neighbours=1, symmetry=True)):
        encoder = SliceEncoder.from_config(settings)
        load_start_weights(encoder, settings)
        own = encoder.backbone.state_dict()["parts.0.1.weight"]
        centre = list(encoder.centre_channels)
        assert centre == ([0, 1, 2] if settings.neighbours == 0 else [3, 4, 5])
        torch.testing.assert_close(own[:, centre], stem)
        others = [channel for channel in range(own.shape[1]) if channel not in centre]
        assert not own[:, others].any()


def test_with_another_number_of_windows_the_mean_kernel_is_repeated() -> None:
    settings = replace(LITE0, windows=("brain", "blood"))
    encoder = SliceEncoder.from_config(settings)
    load_start_weights(encoder, settings)
    stem = imagenet_tensors()["parts.0.1.weight"].mean(dim=1) * 3 / 2
    own = encoder.backbone.state_dict()["parts.0.1.weight"]
    for channel in range(2):
        torch.testing.assert_close(own[:, channel], stem)


def test_a_frozen_network_is_as_a_model_folder_keeps_it() -> None:
    encoder = frozen_encoder(LITE0)
    assert not encoder.training
    for name, tensor in encoder.backbone.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(tensor, tensor.half().float()), name


def test_without_the_package_the_user_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_spec(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(lite0, "find_spec", no_spec)
    with pytest.raises(ConfigError, match=r"pip install 'ich3d\[imagenet\]'"):
        imagenet_tensors()


def test_another_file_in_its_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(lite0, "find_spec", lambda name: spec)
    with pytest.raises(ConfigError, match="is not the file of ImageNet weights"):
        imagenet_tensors()
    (tmp_path / "models").mkdir()
    (tmp_path / WEIGHTS_FILE).write_bytes(b"other")
    with pytest.raises(ConfigError, match="is not the file of ImageNet weights"):
        imagenet_tensors()


def test_imagenet_weights_are_for_one_encoder() -> None:
    with pytest.raises(ConfigError, match=r"slices\.weights"):
        SlicesConfig(encoder="resnet18", weights="imagenet")
