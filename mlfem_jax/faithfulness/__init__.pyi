from .confidence import confidence_change as confidence_change
from .perturbation import (
    deletion_auc as deletion_auc,
    deletion_curve as deletion_curve,
    insertion_auc as insertion_auc,
    insertion_curve as insertion_curve,
)
from .randomization import parameter_layers as parameter_layers, randomization_check as randomization_check
from .stability import local_lipschitz as local_lipschitz
