from . import (
    attribution as attribution,
    backbones as backbones,
    data as data,
    faithfulness as faithfulness,
    gaze as gaze,
    metrics as metrics,
    scores as scores,
    training as training,
)
from .attribution import Method as Method, method as method, methods as methods
from .backbones import (
    Backbone as Backbone,
    Forward as Forward,
    backbone_names as backbone_names,
    from_equinox as from_equinox,
    from_function as from_function,
    from_haiku as from_haiku,
    from_keras as from_keras,
    from_linen as from_linen,
    from_nnx as from_nnx,
    load_backbone as load_backbone,
)
from .engine import batch_bytes as batch_bytes, explain as explain, map_batches as map_batches
from .fusion import fuse as fuse
from .gaze import (
    gaze_densities as gaze_densities,
    gaze_density as gaze_density,
    observer_weights as observer_weights,
    sigma_px_of as sigma_px_of,
)
from .importance import (
    fem as fem,
    importance_map as importance_map,
    layer_maps as layer_maps,
    normalize as normalize,
)
from .photos import place_map as place_map, read_photo as read_photo, resize_photo as resize_photo
from .plot import overlay as overlay
from .upsampling import Grid as Grid, upsample as upsample

__version__: str
