"""Networks to read data out of, their training, and the roads that go through their tangent features."""

from ..features.layer_features import LayerFeatures, Restricted
from .input_hull import InputSpan, read_off
from .models import ResNet, TwoLayer, between, input_span
from .retrace.adam import Adam
from .running_statistics import batch_hull
from .training import Training, TrainingError, train
from .turned_hull import TurnedHull

__all__ = [
    "Adam",
    "InputSpan",
    "LayerFeatures",
    "ResNet",
    "Restricted",
    "Training",
    "TrainingError",
    "TurnedHull",
    "TwoLayer",
    "batch_hull",
    "between",
    "input_span",
    "read_off",
    "train",
]
