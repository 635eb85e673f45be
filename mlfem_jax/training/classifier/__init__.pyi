from .augmentation import Augmentation as Augmentation
from .recipe import Recipe as Recipe
from .scores import (
    confusion_matrix as confusion_matrix,
    mean_average_precision as mean_average_precision,
    top_1 as top_1,
)
from .task import Config as Config, train_classifier as train_classifier
