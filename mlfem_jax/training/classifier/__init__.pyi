from .augmentation import Augmentation as Augmentation
from .recipe import Recipe as Recipe
from .scores import (
    confusion_matrix as confusion_matrix,
    mean_average_precision as mean_average_precision,
    top_1 as top_1,
)
from .step import initial_state as initial_state, make_step as make_step
from .task import Config as Config, frame as frame, train_classifier as train_classifier
