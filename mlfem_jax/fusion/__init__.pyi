from .algebra import ALPHA as ALPHA, OPERATORS as OPERATORS, fuse as fuse
from .architectures import (
    ARCHITECTURES as ARCHITECTURES,
    default_layers as default_layers,
    default_maps as default_maps,
    make_net as make_net,
    reads_channels as reads_channels,
)
from .channel_nets import ChannelNet as ChannelNet, ChannelSum as ChannelSum, Reweighted as Reweighted
from .channels import channel_maps as channel_maps, contributions as contributions, strong_positions as strong_positions
from .inputs import MapRecipe as MapRecipe, MaskRecipe as MaskRecipe, image_maps as image_maps
from .modules import mean_pool as mean_pool
from .network import (
    FusionNet as FusionNet,
    PaperNet as PaperNet,
    UNet as UNet,
    WeightedSum as WeightedSum,
    predict as predict,
)
from .stacks import map_stack as map_stack
from .stored import (
    PACKAGED as PACKAGED,
    TrainedFusion as TrainedFusion,
    load_fusion as load_fusion,
    packaged_fusion as packaged_fusion,
    save_fusion as save_fusion,
)
