"""`ich3d demo`: train on phantoms, then predict a study that no fold has seen."""

from collections.abc import Callable
from dataclasses import replace

from ich3d.config.root import Config
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive
from ich3d.crossfit.train import train
from ich3d.inference.run import predict_to_folder
from ich3d.model.folder import load_model
from ich3d.phantom import write_phantoms
from ich3d.report.run.page import write_report


def demo(config: Config, print_line: Callable[[str], None], progress: Progress = quiet) -> int:
    """Train, predict a held-out phantom, and write the report, all in the config's workspace.

    Args:
        config: a configuration whose source is phantoms.
        print_line: called with each line of the summary: the table of stages and the files to
            look at.
        progress: shows how far each step is.

    Returns:
        The number of studies or files that prediction rejected.
    """
    workspace = train(config, progress)

    held_out = workspace.root / "held_out"
    single_study = replace(config.phantom, studies=1)
    for _ in write_phantoms(single_study, derive(config.seed, "held out"), held_out):
        pass  # it writes as it is iterated
    model = load_model(workspace.model)
    outcome = predict_to_folder(model, [held_out], workspace.root / "prediction", progress)

    report = write_report(config)
    print_line(report.table)
    print_line(f"predictions for a held-out study: {workspace.root / 'prediction' / 'slices.csv'}")
    print_line(f"report: {report.page}")
    return len(outcome.rejected)
