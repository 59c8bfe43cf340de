"""The whole way: train all stages of all folds, save a model folder, load it, predict whole studies."""

from ich3d.pipeline.model import Model, load_model
from ich3d.pipeline.serve import predict
from ich3d.pipeline.train import train

__all__ = ["Model", "load_model", "predict", "train"]
