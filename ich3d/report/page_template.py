"""The templates of pages."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def template(name: str) -> Any:
    """The Jinja template `name` of this package; a variable that it lacks is an error."""
    environment = Environment(
        loader=PackageLoader("ich3d"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
