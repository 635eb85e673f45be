from .reading import Example as Example, cached_maps as cached_maps, map_example as map_example
from .step import (
    Recipe as Recipe,
    cached_inputs as cached_inputs,
    fit as fit,
    gfdms as gfdms,
    initial_state as initial_state,
    make_scores as make_scores,
    make_step as make_step,
    score_maps as score_maps,
)
from .task import Config as Config, train_fusion as train_fusion
