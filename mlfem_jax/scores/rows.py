"""From the arrays of a scored batch to the records of the table: one row for each (image, method), one picture each."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mlfem_jax.data import Batch
from mlfem_jax.gaze import FitRule
from mlfem_jax.scores.batch import BatchScores
from mlfem_jax.scores.plan import Plan
from mlfem_jax.scores.recordings import picture_of

Record = dict[str, Any]


def image_records(
    scored: Iterator[tuple[Batch, BatchScores]],
    places: Iterator[int],
    plan: Plan,
    *,
    rule: FitRule,
    photo_size: int,
) -> Iterator[tuple[list[Record], Record]]:
    """(rows of the table, pictures) of image after image.

    Args:
        scored: batches with their scores, padding included.
        places: of the images in the run.
        plan: what was scored.
        rule: how the photographs got into their frame.
        photo_size: longer side in pixels of the photographs that are kept; of recordings see `picture_of`.
    """
    for batch, scores in scored:
        for i in np.flatnonzero(batch.mask):
            image = _image_fields(batch, scores, int(i)) | {"position": next(places)}
            rows = [
                image
                | {"method": name, "constant": bool(scores.constant[i, row])}
                | dict(zip(plan.column_names, scores.scores[i, row].tolist(), strict=True))
                | {"map": scores.maps[i, row].tobytes() if plan.map_size else None}
                for row, name in enumerate(plan.rows)
            ]
            picture = {"id": image["id"], "photo": b"", "gaze": scores.gaze[i].tobytes()}
            if plan.map_size and isinstance(plan.sigma_px, tuple):
                picture["photo"] = picture_of(batch.images[i], float(batch.fixations[i, 0, 0]), photo_size)
            elif plan.map_size:
                frame = np.array(batch.images.shape[1:3])
                picture["photo"] = _thumbnail(
                    batch.images[i], batch.size[i] if rule == "stretch" else frame, photo_size
                )
            yield rows, picture


def _image_fields(batch: Batch, scores: BatchScores, i: int) -> Record:
    """What all rows of an image share; None where unknown."""
    return {
        "id": str(batch.ids[i]),
        "labels": np.flatnonzero(batch.labels[i]).tolist(),
        "prediction": int(scores.prediction[i]),
        "probability": float(scores.probability[i]),
        "correct": None if scores.correct[i] < 0 else bool(scores.correct[i]),
        "clutter": None if batch.clutter[i] < 0 else int(batch.clutter[i]),
    }


def _thumbnail(image: UInt8[np.ndarray, "H W 3"], size: Int[np.ndarray, "2"], longer: int) -> bytes:
    """A JPEG file of the frame, in the proportions of `size`, (height, width)."""
    height, width = (max(1, round(float(side) * longer / float(size.max()))) for side in size)
    file = io.BytesIO()
    Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR).save(file, "JPEG", quality=80)
    return file.getvalue()
