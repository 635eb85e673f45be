"""How many observers a map is worth: the formula by a simulation, the curve by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from eval.experiments import observers


def test_the_curve_is_of_the_first_observers_and_the_others():
    def blob(y, x):
        return np.exp(-((np.arange(20)[:, None] - y) ** 2 + (np.arange(30) - x) ** 2) / 18)

    places = [(3, 4), (12, 20), (5, 25), (15, 8)]
    source = [{"fixations": np.array([*places, (10, 10)], np.float32), "size": np.array([20, 30]),
               "observers": np.array([4, 2, 9, 1, -1], np.int32)}]  # fmt: skip
    (found,) = observers.agreements(source, np.array([0]), 4, 6, 3.0, seed=0)
    order = [{1: 3, 2: 1, 4: 0, 9: 2}[number] for number in np.random.default_rng(0).permutation([1, 2, 4, 9])]
    blobs = [blob(*places[place]) for place in order]
    for n in (1, 2):
        expected = np.corrcoef(sum(blobs[:n]).ravel(), sum(blobs[n:]).ravel())[0, 1]
        assert found[n - 1] == pytest.approx(expected, abs=1e-4)
    assert observers.observer_count(source[0]) == 4


@pytest.mark.parametrize(("first", "second"), [(1, 14), (3, 12), (7, 8)])
def test_what_is_reckoned_is_what_noisy_observers_do(first, second):
    random, q = np.random.default_rng(1), 1.2
    truth = random.normal(size=200_000)
    people = truth + np.sqrt(q) * random.normal(size=(first + second, len(truth)))
    agreement = np.corrcoef(people[:first].mean(0), people[first:].mean(0))[0, 1]
    assert observers.reckoned(q, first, second) == pytest.approx(agreement, abs=0.01)
    assert observers.noise(agreement, first, second) == pytest.approx(q, rel=0.03)


def test_a_map_is_worth_what_it_correlates_with_all_of_them():
    random, q, total = np.random.default_rng(2), 1.2, 15
    truth = random.normal(size=200_000)
    everybody = truth + np.sqrt(q / total) * random.normal(size=truth.shape)
    three = truth + np.sqrt(q / 3) * random.normal(size=truth.shape)
    assert observers.worth(np.corrcoef(three, everybody)[0, 1], q, total) == pytest.approx(3, rel=0.05)
    assert observers.worth(0.999, q, total) == np.inf


def test_a_score_that_no_number_of_observers_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scores: expected correlations above 0, to 1, got \(0.5, -0.5\)"):
        observers.Config(tmp_path, (0.5, -0.5))


def test_the_images_are_those_of_the_most_common_number_of_observers(monkeypatch, tmp_path, capsys):
    """One of two and one of four: none has the median, three."""

    def record(count):
        places = np.random.default_rng(count).uniform(0, 8, (count, 2))
        return {"fixations": places.astype(np.float32), "size": np.array([8, 9]),
                "observers": np.arange(count, dtype=np.int32)}  # fmt: skip

    class Records(list):
        dataset_info = SimpleNamespace(metadata={"sigma_px": 2.0})

    monkeypatch.setattr(observers, "open_dataset", lambda *_: Records([record(2), record(4)]))
    monkeypatch.setattr(observers, "scan", lambda source: SimpleNamespace(max_fixations=4))
    observers.main(observers.Config(tmp_path))
    assert "1 images of 2 observers, 1 of another number left out" in capsys.readouterr().out
