from .algebra import ALPHA as ALPHA, OPERATORS as OPERATORS, fuse as fuse
from .inputs import (
    MapRecipe as MapRecipe,
    default_maps as default_maps,
    image_maps as image_maps,
    map_stack as map_stack,
)
from .modules import mean_pool as mean_pool
from .network import (
    ARCHITECTURES as ARCHITECTURES,
    FusionNet as FusionNet,
    PaperNet as PaperNet,
    UNet as UNet,
    make_net as make_net,
    predict as predict,
)
from .stored import (
    PACKAGED as PACKAGED,
    TrainedFusion as TrainedFusion,
    load_fusion as load_fusion,
    packaged_fusion as packaged_fusion,
    save_fusion as save_fusion,
)
