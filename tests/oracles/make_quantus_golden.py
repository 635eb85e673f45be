"""Makes golden/quantus.npz: Quantus' and captum's scores of a few maps, with the maps and masks themselves.

    python tests/oracles/make_quantus_golden.py

Made with Quantus 0.6.0 and captum 0.9.0, which import torch; none is needed to run the tests. The maps are positive and
without ties, where the definitions agree with the library's.
"""

import os
from pathlib import Path

import numpy as np
import quantus
import torch
from captum.metrics import infidelity
from quantus.functions.perturb_func import noisy_linear_imputation

GOLDEN = Path(__file__).parent.parent / "golden" / "quantus.npz"
SHAPE = (14, 17)
COUNT = 4


def of_maps(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of localization and complexity, by the library's names."""
    inputs = np.zeros((COUNT, 3, *SHAPE))
    options = {"disable_warnings": True, "display_progressbar": False}

    def scores(metric, **more):
        return np.asarray(metric.evaluate_batch(x_batch=inputs, a_batch=maps[:, None].copy(), **more), float)

    located = {"s_batch": masks[:, None]}
    return {
        "pointing_game": scores(quantus.PointingGame(**options), **located),
        "energy_inside": scores(quantus.AttributionLocalisation(**options), **located),
        "relevance_rank": scores(quantus.RelevanceRankAccuracy(**options), **located),
        "top_k_intersection": scores(quantus.TopKIntersection(k=20, **options), **located),
        "sparseness": scores(quantus.Sparseness(**options)),
        "entropy": scores(quantus.Complexity(**options)),
        "effective_complexity": scores(quantus.EffectiveComplexity(eps=0.5, **options)) / maps[0].size,
    }


def of_perturbations(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """captum's infidelity of an attribution under stored perturbations of a small network."""
    weights = torch.tensor(rng.normal(size=(12,)), dtype=torch.float64)
    inputs = torch.tensor(rng.random((1, 12)), dtype=torch.float64)
    attribution = torch.tensor(rng.normal(size=(1, 12)), dtype=torch.float64)
    perturbations = torch.tensor(rng.normal(size=(9, 12)) * 0.2, dtype=torch.float64)

    def network(inputs):
        return torch.tanh(inputs @ weights)

    def perturb(inputs):
        return perturbations[: len(inputs)], inputs - perturbations[: len(inputs)]

    found = {
        f"infidelity_{normalize}": infidelity(
            network, perturb, inputs, attribution, n_perturb_samples=9, normalize=normalize
        ).numpy()
        for normalize in (False, True)
    }
    said = (perturbations * attribution).sum(dim=1)
    done = network(inputs) - network(inputs - perturbations)
    return found | {"said": said.numpy(), "done": done.numpy()}


def main() -> None:
    """Writes the golden file."""
    rng = np.random.default_rng(0)
    maps = rng.random((COUNT, *SHAPE)) + 0.01
    masks = rng.random((COUNT, *SHAPE)) < 0.2
    masks[0] = maps[0] > np.sort(maps[0].ravel())[-30]
    image = rng.random((3, *SHAPE))
    gone = rng.random(SHAPE) < 0.5
    filled = noisy_linear_imputation(image, np.flatnonzero(gone), noise=0.0)
    scores = of_maps(maps, masks)
    beside = GOLDEN.with_name(".quantus.npz")
    np.savez_compressed(
        beside,
        maps=np.float32(maps),
        masks=masks,
        image=np.float32(image.transpose(1, 2, 0)),
        gone=gone,
        filled=np.float32(filled.reshape(image.shape).transpose(1, 2, 0)),
        **{f"score_{name}": values for name, values in scores.items()},
        **of_perturbations(rng),
    )
    os.replace(beside, GOLDEN)
    for name, values in scores.items():
        print(f"{name}: {np.round(values, 4).tolist()}")


if __name__ == "__main__":
    main()
