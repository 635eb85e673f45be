"""Average precision, top-1 and confusion, by hand."""

import numpy as np

from mlfem_jax.training.classifier.scores import average_precision, confusion_matrix, mean_average_precision, top_1


def test_average_precision_by_hand():
    # Ranks 1, 3 and 4 of 5 are positive: precisions 1/1, 2/3 and 3/4.
    scores, positive = np.array([0.2, 0.9, 0.5, 0.7, 0.4]), np.array([False, True, True, False, True])
    assert average_precision(scores, positive) == np.mean([1, 2 / 3, 3 / 4])
    assert np.isnan(average_precision(scores, np.zeros(5, bool)))


def test_images_of_one_score_count_together_in_any_order():
    positive = np.array([True, False, True, False])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        assert average_precision(np.full(4, 0.5), positive[order]) == 0.5


def test_mean_average_precision_leaves_classes_without_an_image_out():
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.6, 0.1], [0.1, 0.7, 0.1]])
    labels = np.array([[True, False, False], [False, True, False], [False, False, False]])
    assert mean_average_precision(scores, labels) == (1 + 1 / 2) / 2
    assert np.isnan(mean_average_precision(scores, np.zeros((3, 3), bool)))


def test_top_1_takes_any_of_the_labels():
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.6, 0.8], [0.9, 0.2, 0.1], [0.1, 0.9, 0.3]])
    labels = np.array([[True, True, False], [False, False, True], [False, True, True], [True, False, False]])
    assert top_1(scores, labels) == 0.5
    assert np.isnan(top_1(scores[:0], labels[:0]))


def test_confusion_rows_are_the_truth():
    truth, prediction = np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 2, 0])
    assert confusion_matrix(truth, prediction, 3).tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]
