"""How well a classifier classifies: average precision, top-1, confusion. NumPy in, NumPy out."""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


def average_precision(scores: Float[np.ndarray, " images"], positive: Bool[np.ndarray, " images"]) -> float:
    """The mean, over the images of a class, of the precision among the images that score at least as high.

    Args:
        scores: of the class; images of the same score count together, whatever their order.
        positive: whether the image is of the class.

    Returns:
        0 to 1; NaN where no image is of the class.

    Source:
        The uninterpolated average precision, as in scikit-learn's `average_precision_score`.

    Example:
        >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True])) == (1 + 2 / 3) / 2
        True
    """
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(positive[order])
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    hits, seen = found[last_of_tie], np.flatnonzero(last_of_tie) + 1
    return float((np.diff(hits, prepend=0) * hits / seen).sum() / hits[-1])


def mean_average_precision(
    scores: Float[np.ndarray, "images classes"], labels: Bool[np.ndarray, "images classes"]
) -> float:
    """The mean over classes of the average precision; classes without an image are left out, NaN if all are.

    Example:
        >>> mean_average_precision(np.array([[0.9, 0.1], [0.2, 0.8]]), np.eye(2, dtype=bool))
        1.0
    """
    values = [average_precision(scores[:, i], labels[:, i]) for i in range(labels.shape[1]) if labels[:, i].any()]
    return float(np.mean(values)) if values else float("nan")


def top_1(scores: Float[np.ndarray, "images classes"], labels: Bool[np.ndarray, "images classes"]) -> float:
    """The share of images whose best class is one of theirs; NaN for no images.

    Example:
        >>> top_1(np.array([[0.9, 0.1], [0.7, 0.3]]), np.eye(2, dtype=bool))
        0.5
    """
    if len(scores) == 0:
        return float("nan")
    return float(labels[np.arange(len(scores)), scores.argmax(axis=1)].mean())


def confusion_matrix(
    truth: Int[np.ndarray, " images"], prediction: Shaped[np.ndarray, " images"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Number of images of the class of the row that were taken for the class of the column.

    Args:
        truth: class of each image.
        prediction: class that each was taken for.
        classes: number of them.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    return np.bincount(truth * classes + prediction, minlength=classes**2).reshape(classes, classes)
