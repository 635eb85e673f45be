from .ablation import ablation_cam as ablation_cam, channel_losses as channel_losses
from .attention import attention_gradients as attention_gradients
from .base import Entry as Entry, finish as finish, take_sign as take_sign, to_maps as to_maps
from .cam import (
    eigen_cam as eigen_cam,
    grad_cam as grad_cam,
    grad_cam_pp as grad_cam_pp,
    hires_cam as hires_cam,
    layer_cam as layer_cam,
    layer_gradients as layer_gradients,
    xgrad_cam as xgrad_cam,
)
from .full_grad import full_gradient as full_gradient
from .gradient import (
    input_gradient as input_gradient,
    integrated_gradients as integrated_gradients,
    modified_gradient as modified_gradient,
    noisy_gradients as noisy_gradients,
)
from .guided_cam import guided_grad_cam as guided_grad_cam
from .learned import Reasons as Reasons, net_reasons as net_reasons
from .lrp import relevance as relevance
from .mlfem import layer_stacks as layer_stacks
from .paths import (
    expected_gradients as expected_gradients,
    guided_ig as guided_ig,
    guided_step as guided_step,
    random_colors as random_colors,
)
from .perturbation import rise_mask as rise_mask, superpixels as superpixels, weighted_ridge as weighted_ridge
from .regions import rank_regions as rank_regions, segments as segments
from .registry import (
    FAMILIES as FAMILIES,
    METHODS as METHODS,
    Method as Method,
    accepted_options as accepted_options,
    method as method,
    methods as methods,
    methods_on as methods_on,
)
from .rescale import deep_lift as deep_lift
from .rows import chefer as chefer, legrad as legrad, rfem as rfem, rollout as rollout
from .target import (
    Target as Target,
    class_score as class_score,
    class_targets as class_targets,
    parse_target as parse_target,
)
