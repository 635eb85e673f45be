from . import classifier as classifier, fusion as fusion
from .checkpoints import (
    open_checkpoints as open_checkpoints,
    restore_checkpoint as restore_checkpoint,
    save_checkpoint as save_checkpoint,
)
from .loop import train as train
from .run import plot_curves as plot_curves, read_metrics as read_metrics
from .step import TrainState as TrainState, real_examples as real_examples
