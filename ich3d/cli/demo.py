"""The whole way on phantoms: write, prepare, train, report, then predict a series no fold has seen."""

from collections.abc import Callable
from dataclasses import replace

from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive
from ich3d.crossfit.train import train
from ich3d.inference.run import predict_to_folder
from ich3d.model.folder import load_model
from ich3d.phantom import write_phantoms
from ich3d.report.run.page import write_report


def demo(config: Config, say: Callable[[str], None], progress: Progress = quiet) -> int:
    """Run everything, `say` the stage table and where to look; how many subjects were rejected."""
    workspace = train(config, progress)
    held_out = workspace.root / "held_out"
    unseen: PhantomConfig = replace(config.phantom, studies=1)
    for _ in write_phantoms(unseen, derive(config.seed, "held out"), held_out):
        pass
    prediction = predict_to_folder(
        load_model(workspace.model), [held_out], workspace.root / "prediction", progress
    )
    written = write_report(config)
    say(written.table)
    say(f"a held-out series, slice by slice: {workspace.root / 'prediction' / 'slices.csv'}")
    say(f"report with pictures: {written.page}")
    return len(prediction.rejected)
