from .batch import score_batches as score_batches, score_part as score_part
from .change import Change as Change, changes as changes
from .columns import (
    METRICS as METRICS,
    Gaze as Gaze,
    column as column,
    metric_names as metric_names,
    metric_of as metric_of,
)
from .config import Config as Config
from .pairs import (
    Effect as Effect,
    Survival as Survival,
    effects as effects,
    holm as holm,
    pair_counts as pair_counts,
    paired_tests as paired_tests,
    survivals as survivals,
    tied as tied,
    win_matrix as win_matrix,
)
from .plan import HUMANS as HUMANS, PEOPLE as PEOPLE, Plan as Plan, parse_method as parse_method
from .read import (
    Groups as Groups,
    Scores as Scores,
    Summaries as Summaries,
    clutter_counts as clutter_counts,
    correctness as correctness,
    groups_of as groups_of,
    load as load,
    methods_only as methods_only,
)
from .run import score as score, score_records as score_records
from .statistics import (
    Group as Group,
    Summary as Summary,
    bootstrap_interval as bootstrap_interval,
    clutter_levels as clutter_levels,
    group_summaries as group_summaries,
    relative_loss as relative_loss,
    summarize as summarize,
)
from .stored import StoredMaps as StoredMaps
from .table import read_pictures as read_pictures, undefined_counts as undefined_counts
