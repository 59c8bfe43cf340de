"""The recipe of the container image: linted, read, and its steps run without a builder."""

import os
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

import ich3d

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "Containerfile"


def instructions(name: str) -> list[str]:
    """The values of all instructions called `name`, in order."""
    parser = DockerfileParser(fileobj=BytesIO(RECIPE.read_bytes()))
    return [each["value"] for each in parser.structure if each["instruction"] == name]


def copied_from_checkout() -> list[str]:
    """The files and folders of the checkout that the recipe copies."""
    copies = [value.split() for value in instructions("COPY") if not value.startswith("--from")]
    return [source for *sources, _ in copies for source in sources]


def test_the_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    program = hadolint if hadolint.exists() else shutil.which("hadolint")
    assert program, "hadolint is not installed: pip install -c constraints.txt -e '.[test]'"
    process = subprocess.run([program, RECIPE], capture_output=True, encoding="utf-8", check=False)
    assert process.stdout + process.stderr == ""
    assert process.returncode == 0


def test_the_base_is_pinned_and_nothing_is_fetched_by_address() -> None:
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", RECIPE.read_text(), re.M)
    assert re.search(r":\d+\.\d+\.\d+-slim-\w+$", image)
    assert instructions("ADD") == []
    assert not re.search(r"https?://|curl|wget|latest", RECIPE.read_text())


def test_the_image_runs_as_nobody_in_particular_and_starts_ich3d() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert instructions("ENTRYPOINT") == ['["ich3d"]']
    (labels,) = instructions("LABEL")
    assert f'org.opencontainers.image.version="{ich3d.__version__}"' in labels
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in labels


def test_the_builder_gets_what_is_copied_and_no_more() -> None:
    sources = copied_from_checkout()
    assert "ich3d" in sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    assert sorted(allowed) == sorted(sources)


@pytest.mark.slow
def test_the_steps_need_nothing_that_the_recipe_does_not_copy(tmp_path: Path) -> None:
    """In an empty folder with an empty environment; the check runs where there is no network."""
    source, image = tmp_path / "source", tmp_path / "image"
    for name in copied_from_checkout():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, target)

    python = Path(sys.base_prefix) / "bin"
    environment = {"PATH": f"{python}:/usr/bin:/bin", "HOME": str(tmp_path)}
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    steps = source / "scripts" / "container_steps.sh"
    run(source, {**environment, **pip}, steps, "install", "cpu", image)

    # Root in its own user namespace may also have its own network, which is none.
    alone = ["unshare", "--map-root-user", "--net"]
    has_namespaces = subprocess.run([*alone, "true"], capture_output=True, check=False)
    prefix = alone if has_namespaces.returncode == 0 else []
    run(tmp_path, environment, *prefix, steps, "check", image)


def run(folder: Path, environment: dict[str, str], *command: str | Path) -> None:
    process = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.slow
def test_a_builder_makes_an_image_that_runs_without_a_network() -> None:
    builder = next(filter(shutil.which, ("podman", "docker")), None)
    if builder is None or subprocess.run([builder, "info"], capture_output=True).returncode:
        pytest.skip("neither podman nor docker runs here")
    pip = [f"--build-arg={name}" for name in ("PIP_EXTRA_INDEX_URL",) if name in os.environ]
    tag = "ich3d-test"
    subprocess.run([builder, "build", "-t", tag, "-f", RECIPE, *pip, ROOT], check=True)
    shown = subprocess.run(
        [builder, "run", "--rm", "--network", "none", "--read-only", tag, "--version"],
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert ich3d.__version__ in shown.stdout
