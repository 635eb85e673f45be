from . import classifier as classifier, fusion as fusion
from .checkpoints import restore_checkpoint as restore_checkpoint, save_checkpoint as save_checkpoint
from .loop import Reader as Reader, train as train
from .run import plot_curves as plot_curves, read_metrics as read_metrics
