"""Make the starter model of the package: train it, put it into the package, write its card.

    ICH3D_CT_ICH=<folder of CT-ICH 1.0.0> python scripts/starter.py

What is trained already is not trained again. `--set` and `--evaluation` are those of `ich3d train`
and `ich3d card`.
"""

import argparse
import sys
from pathlib import Path

from ich3d.cli.commands import OK, REJECTED
from ich3d.cli.parser import main as ich3d
from ich3d.config.load import load_config
from ich3d.core.workspace import Workspace
from ich3d.model.starter import install_starter

CONFIG = Path("configs/starter.yaml")


def main() -> int:
    """Train, copy, write the card; the exit code of the first command that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--evaluation", dest="evaluations", action="append", default=[])
    arguments = parser.parse_args()

    overrides = [word for text in arguments.overrides for word in ("--set", text)]
    code = ich3d(["train", "--config", str(arguments.config), *overrides])
    if code not in (OK, REJECTED):
        return code

    workspace = Workspace(Path(load_config(arguments.config, arguments.overrides).workspace))
    model = install_starter(workspace.model)
    evaluations = [word for text in arguments.evaluations for word in ("--evaluation", text)]
    return ich3d(["card", str(model), "--run", str(workspace.root), *evaluations])


if __name__ == "__main__":
    sys.exit(main())
