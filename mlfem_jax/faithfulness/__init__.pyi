from .confidence import confidence_change as confidence_change
from .fidelity import infidelity as infidelity, sensitivity_n as sensitivity_n
from .perturbation import (
    deletion_auc as deletion_auc,
    deletion_curve as deletion_curve,
    insertion_auc as insertion_auc,
    insertion_curve as insertion_curve,
)
from .randomization import parameter_layers as parameter_layers, randomization_check as randomization_check
from .removal import abpc as abpc, fill_in as fill_in, road as road
from .sanity import complexity_rise as complexity_rise, random_logit as random_logit
from .soft import soft_abpc as soft_abpc
from .stability import local_lipschitz as local_lipschitz, max_sensitivity as max_sensitivity
from .superpixel import irof as irof, irof_curve as irof_curve
