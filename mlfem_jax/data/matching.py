"""Whether the recordings of a data set are what a network takes."""

from collections.abc import Mapping
from typing import Any

from mlfem_jax.data.recording import RecordingFormat
from mlfem_jax.data.split import Index


def recording_format(
    metadata: Mapping[str, Any],
    index: Index,
    *,
    source: object,
    network: str,
    shape: tuple[int, ...],
    samples_per_s: int | None = None,
) -> RecordingFormat:
    """What the recordings of a data set look like to a network.

    Args:
        metadata: of the data set.
        index: of its records.
        source: what errors name.
        network: its name, for errors.
        shape: of an example that it takes, channels last; a single channel may be left out by the recordings.
        samples_per_s: of the sound that it takes; None: of any.

    Raises:
        ValueError: the network takes others.
    """
    form = metadata.get("recording")
    bare = shape[:-1] if shape[-1] == 1 else shape
    if form is None or tuple(form["shape"]) not in (shape, bare):
        found = "photographs" if form is None else f"recordings of shape {tuple(form['shape'])}"
        raise ValueError(
            f"{source}: expected recordings of shape {bare}, as {network} takes, got {found}; see the options of "
            f"`mlfem prepare recordings`: --length {shape[0]} ..."
        )
    rate = form.get("samples_per_s")
    if None not in (samples_per_s, rate) and samples_per_s != rate:
        raise ValueError(
            f"{source}: expected {samples_per_s} samples a second, as {network} takes, got {rate}; see "
            f"`mlfem prepare recordings --samples-per-s {samples_per_s}`"
        )
    axes = index.sizes.shape[1]
    return RecordingFormat(
        shape, max(1, index.max_fixations), axes, classes=len(metadata["class_names"]), dtype=form["dtype"]
    )
