"""The bill of materials lists what is installed, in CycloneDX's form."""

import json
from importlib.metadata import version

import ich3d
from scripts.write_sbom import sbom


def test_the_bill_names_the_package_and_what_it_needs() -> None:
    content = sbom()
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.5")
    root = content["metadata"]["component"]
    assert (root["name"], root["version"]) == ("ich3d", ich3d.__version__)

    versions = {component["name"]: component["version"] for component in content["components"]}
    for name in ("pydicom", "numpy", "torch", "simpleitk"):
        assert versions[name] == version(name)
    assert "pytest" not in versions  # an extra
    assert len(versions) == len(content["components"])


def test_every_reference_is_a_component() -> None:
    content = sbom()
    components = [content["metadata"]["component"], *content["components"]]
    references = {component["bom-ref"] for component in components}
    assert {entry["ref"] for entry in content["dependencies"]} == references
    for entry in content["dependencies"]:
        assert set(entry["dependsOn"]) <= references
    assert all(reference.startswith("pkg:pypi/") for reference in references)


def test_equal_environments_give_equal_bytes() -> None:
    assert json.dumps(sbom()) == json.dumps(sbom())
    assert sbom()["serialNumber"].startswith("urn:uuid:")
