"""Makes golden/quantus.npz: Quantus' IROF, random logit test and discrete entropy on a tiny network.

    python tests/oracles/make_quantus_golden.py

Made with Quantus 0.6.0 and torch 2.14.1. The network is a ReLU layer over two pixels' worth of channels and a dense
layer; its weights, images and superpixels are in the file. Quantus' IROF is the number of superpixels minus the area
under the ratios from the first superpixel that is gone on.
"""

import os

import numpy as np
import quantus
import torch
from golden import FOLDER
from quantus.functions.complexity_func import discrete_entropy
from quantus.functions.similarity_func import correlation_spearman
from quantus.metrics.faithfulness import irof

np.trapz = np.trapezoid  # noqa: NPY201 (NumPy 2.4 has it under its new name alone)
COUNT, SIZE, CLASSES = 3, (6, 8), 2


class Network(torch.nn.Module):
    """Pixels to eight ReLUs each, their mean, and a dense layer."""

    def __init__(self, first: np.ndarray, head: np.ndarray):
        super().__init__()
        self.first, self.head = (torch.nn.Parameter(torch.from_numpy(array)) for array in (first, head))

    def forward(self, x):
        return torch.relu(torch.einsum("nchw,cf->nfhw", x.double() - 0.5, self.first)).mean(dim=(2, 3)) @ self.head


def gradient_x_input(model, inputs, targets, **options) -> np.ndarray:
    inputs = torch.as_tensor(inputs, dtype=torch.float64).requires_grad_(True)
    chosen = model(inputs).gather(1, torch.as_tensor(targets)[:, None].long()).sum()
    (gradient,) = torch.autograd.grad(chosen, inputs)
    return (gradient * (inputs - 0.5)).sum(dim=1, keepdim=True).detach().numpy()


def black(arr, mask, **options) -> np.ndarray:
    """Quantus' own function refuses a mask of one channel, which its IROF hands over."""
    return np.where(mask, 0.0, arr)


def main() -> None:
    rng = np.random.default_rng(0)
    first, head = rng.normal(size=(3, 8)), 3 * rng.normal(size=(8, CLASSES))
    images, maps = rng.random((COUNT, 3, *SIZE)), rng.random((COUNT, 1, *SIZE))
    labels = np.stack([np.kron(rng.permutation(count).reshape(rows, -1), np.ones((6 // rows, 8 * rows // count), int))
                       for rows, count in ((3, 12), (2, 8), (3, 6))])  # fmt: skip
    model = Network(first, head).double().eval()
    classes = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    left = iter(labels)
    irof.utils.get_superpixel_segments = lambda img, segmentation_method: next(left)
    quiet = {"disable_warnings": True, "normalise": False, "abs": False}
    scores = quantus.IROF(perturb_func=black, return_aggregate=False, **quiet)(
        model=model, x_batch=images, y_batch=classes, a_batch=maps, channel_first=True, softmax=True, device="cpu",
        batch_size=1,  # in a batch, an image of fewer superpixels gets half of its last ratio on top
    )  # fmt: skip
    alike = quantus.RandomLogit(num_classes=CLASSES, similarity_func=correlation_spearman, **quiet)(
        model=model, x_batch=images, y_batch=classes, a_batch=None, channel_first=True, device="cpu",
        explain_func=gradient_x_input,
    )  # fmt: skip
    entropies = [discrete_entropy(a=one, x=one, n_bins=bins) for one, bins in zip(maps, (5, 10, 100), strict=True)]
    arrays = {
        "first": np.float32(first),
        "head": np.float32(head),
        "images": np.float32(images.transpose(0, 2, 3, 1)),
        "maps": np.float32(maps[:, 0]),
        "labels": labels,
        "irof": np.array(scores),
        "random_logit": np.array(alike),
        "entropy": np.array(entropies),
    }
    np.savez_compressed(FOLDER / ".quantus.npz", **arrays)
    os.replace(FOLDER / ".quantus.npz", FOLDER / "quantus.npz")
    print({name: arrays[name] for name in ("irof", "random_logit", "entropy")})


if __name__ == "__main__":
    main()
