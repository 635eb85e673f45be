from .config import Config as Config, fusion_shape as fusion_shape
from .data import Data as Data, open_data as open_data
from .reading import Example as Example, Kept as Kept, cached_maps as cached_maps, map_example as map_example
from .step import (
    Recipe as Recipe,
    cached_inputs as cached_inputs,
    fit as fit,
    frame_of as frame_of,
    gfdms as gfdms,
    initial_state as initial_state,
    make_scores as make_scores,
    make_step as make_step,
    score_maps as score_maps,
    stacks as stacks,
)
from .task import train_fusion as train_fusion
