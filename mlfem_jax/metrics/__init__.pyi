from .common import content as content, limits as limits
from .complexity import (
    effective_complexity as effective_complexity,
    entropy as entropy,
    sparseness as sparseness,
)
from .density import kl_divergence as kl_divergence, pcc as pcc, similarity as similarity
from .fixation import information_gain as information_gain, nss as nss
from .localization import (
    box_mask as box_mask,
    energy_inside as energy_inside,
    near_mask as near_mask,
    pointing_game as pointing_game,
    relevance_rank as relevance_rank,
    top_k_intersection as top_k_intersection,
)
from .roc import (
    auc as auc,
    auc_against_counts as auc_against_counts,
    auc_judd as auc_judd,
    auc_shuffled as auc_shuffled,
    fixation_counts as fixation_counts,
)
from .sampled import auc_shuffled_sampled as auc_shuffled_sampled
from .transport import emd as emd
