"""`ich3d demo`: predict a phantom with the starter model, then train on other phantoms and predict
it again.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ich3d.config.root import Config
from ich3d.core.labels import ANY
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive
from ich3d.core.text import pluralize
from ich3d.core.workspace import Workspace, read_csv
from ich3d.inference.run import predict_to_folder
from ich3d.model.folder import load_model
from ich3d.model.starter import starter_model, starter_notice
from ich3d.phantom import write_phantoms


def demo(
    config: Config,
    print_line: Callable[[str], None],
    progress: Progress = quiet,
    overwrite: bool = False,
) -> int:
    """Predict a phantom with the starter model; train on others, predict it again, and report.

    All is written to the config's workspace.

    Args:
        config: a configuration whose source is phantoms.
        print_line: called with each line of the summary: what was done, the files to look at, and
            the table of stages.
        progress: shows how far each step is.
        overwrite: whether what the workspace holds of other work is replaced.

    Returns:
        The number of studies or files that prediction rejected.

    Raises:
        ModelError: this installation has no starter model.
    """
    workspace = Workspace(Path(config.workspace))
    starter = load_model(starter_model())
    held_out = workspace.root / "held_out"
    single_study = replace(config.phantom, studies=1)
    for _ in write_phantoms(single_study, derive(config.seed, "held out"), held_out):
        pass  # it writes as it is iterated

    out = workspace.root / "starter_prediction"
    by_starter = predict_to_folder(starter, [held_out], out, progress, overwrite=overwrite)
    print_line(starter_notice())
    print_line(f"a drawn head, predicted by the starter model: {_summary(out / 'slices.csv')}")
    print_line("next, all stages are trained on phantoms, from DICOM files on; this takes minutes")

    # Training loads further packages, for which the first prediction does not wait.
    from ich3d.crossfit.train import train
    from ich3d.report.run.page import write_report

    train(config, progress, overwrite)
    model = load_model(workspace.model)
    out = workspace.root / "prediction"
    by_trained = predict_to_folder(model, [held_out], out, progress, overwrite=overwrite)

    report = write_report(config)
    print_line(report.table)
    print_line(f"the same head, predicted by the new model: {_summary(out / 'slices.csv')}")
    print_line(f"report: {report.page}")
    return len(by_starter.rejected) + len(by_trained.rejected)


def _summary(path: Path) -> str:
    """What a table `slices.csv` says of a study, and its path."""
    table = read_csv(path)
    prob, z_mm = table[f"stack_{ANY}"].to_numpy(float), table["z_mm"].to_numpy(float)
    return (
        f"{pluralize(len(table), 'slice')}, the highest probability of {ANY} is {prob.max():.2f} "
        f"at z = {z_mm[prob.argmax()]:.0f} mm; all are in {path}"
    )
