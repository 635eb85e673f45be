from .batch import score_batches as score_batches, score_part as score_part
from .columns import METRICS as METRICS, metric_names as metric_names
from .plan import HUMANS as HUMANS, Plan as Plan, parse_method as parse_method
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
from .run import Config as Config, score as score, score_records as score_records
from .statistics import (
    Group as Group,
    Summary as Summary,
    bootstrap_interval as bootstrap_interval,
    clutter_levels as clutter_levels,
    group_summaries as group_summaries,
    holm as holm,
    pair_counts as pair_counts,
    paired_tests as paired_tests,
    relative_loss as relative_loss,
    summarize as summarize,
    win_matrix as win_matrix,
)
from .table import read_pictures as read_pictures, undefined_counts as undefined_counts
