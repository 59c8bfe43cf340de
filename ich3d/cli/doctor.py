"""What is installed, which device and precision a prediction would take, and how to get what is missing.

Versions come from the packages' metadata: nothing is imported to learn that it is there. torch alone is
asked which device it has, and not even torch where its build says that there can be none.
"""

import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ich3d
from ich3d.core.hardware import cpu_has_bf16, memory_gb, usable_cores

NEEDED = (
    "blosc2", "jinja2", "lightgbm", "matplotlib", "monai", "nibabel", "numpy", "omegaconf", "pandas",
    "pillow", "pydicom", "pyyaml", "safetensors", "scikit-learn", "scipy", "SimpleITK", "torch", "tqdm",
)  # fmt: skip
EXTRAS = {
    "results as DICOM": ("highdicom",),
    "speed on CPUs": ("openvino",),
    "running exported bundles": ("fire", "jsonschema"),
    "decoders beside SimpleITK": ("pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg"),
}


def doctor() -> dict[str, Any]:
    """This machine as a plain tree; a package that is not there has no version (None), extras go by use.

    `missing` has the command for what ich3d cannot do without, and that for the extras.
    """
    needed = {name: _version(name) for name in NEEDED}
    extras = {use: {name: _version(name) for name in names} for use, names in EXTRAS.items()}
    device, precision = _device(needed["torch"])
    library = "openvino" if device == "cpu" and extras["speed on CPUs"]["openvino"] else "torch"
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
        "packages": needed,
        "extras": extras,
        "missing": {"packages": _command([needed]), "extras": _command(extras.values())},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device(torch: str | None) -> tuple[str | None, str | None]:
    """Where a prediction would run, and in what precision unless its model says fp32."""
    if torch is None:
        return None, None
    if torch.endswith("+cpu"):  # the label of builds that know no accelerator
        return "cpu", "bf16" if cpu_has_bf16() else "fp32"
    try:
        from ich3d.training.device import bf16_is_native, device
    except (ImportError, OSError) as error:  # a library of the driver that is not there, say
        return f"unknown: torch does not load ({error})", None
    return str(device()), "bf16" if bf16_is_native(device()) else "fp32"


def _command(groups: Iterable[Mapping[str, str | None]]) -> str | None:
    """What installs those that are not there; None where all are."""
    missing = [name for group in groups for name, found in group.items() if found is None]
    return shlex.join([sys.executable, "-m", "pip", "install", *missing]) if missing else None
