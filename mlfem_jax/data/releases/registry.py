"""Every data set that `mlfem prepare` knows, by name."""

from mlfem_jax.data.releases.cat2000 import CAT2000
from mlfem_jax.data.releases.crowd import CROWD
from mlfem_jax.data.releases.folder import FOLDER
from mlfem_jax.data.releases.mexculture import MEXCULTURE142
from mlfem_jax.data.releases.mit1003 import MIT1003
from mlfem_jax.data.releases.osie import OSIE
from mlfem_jax.data.releases.recordings import RECORDINGS
from mlfem_jax.data.releases.records import Dataset
from mlfem_jax.data.releases.salicon import SALICON_2015, SALICON_2017, SALICON_JSON, SALICON_MOUSE
from mlfem_jax.data.releases.toronto import TORONTO

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        SALICON_2015,
        SALICON_2017,
        SALICON_MOUSE,
        SALICON_JSON,
        CAT2000,
        MEXCULTURE142,
        OSIE,
        CROWD,
        MIT1003,
        TORONTO,
        FOLDER,
        RECORDINGS,
    )
}


def find_dataset(name: str) -> Dataset:
    """The data set called `name`.

    Raises:
        ValueError: no such name; lists those that there are.

    Example:
        >>> find_dataset("osie").sigma_px
        24.0
    """
    if name not in DATASETS:
        raise ValueError(f"data set: expected one of {', '.join(sorted(DATASETS))}, got {name!r}")
    return DATASETS[name]
