"""Makes golden/attribution_small.npz: other packages' explanations of one small network with fixed weights.

    PYTHONPATH=FOLDER_WITH_GRAD_CAM_AND_SALIENCY python tests/oracles/make_small_attribution_golden.py

Ablation-CAM by grad-cam 1.5.7 (the raw map); DeepLIFT, gradient SHAP (20,000 samples) and Guided Grad-CAM by captum
0.9.0 (whose DeepLIFT is complete only where a max pool does not follow a ReLU at once: see `Copy`); guided IG and XRAI
by PAIR's saliency 0.2.1; FullGrad by torch's autograd and hooks, written here (grad-cam's scales every channel by
itself, where the paper scales a layer). torch 2.14.1, float64 but for gradient SHAP. The network is that of
`tests/attribution/test_small.py`, whose weights come from `synthetic_weights`.
"""

import os
import sys
import types

import numpy as np
import torch
from captum.attr import DeepLift, GradientShap, GuidedGradCam
from captum.attr._core import deep_lift
from golden import FOLDER
from synthetic_weights import centered, synthetic_inputs, uniform
from torch.nn.functional import interpolate

sys.modules["saliency.tf1"] = types.ModuleType("saliency.tf1")  # which wants TensorFlow
_quantile = np.quantile
np.quantile = lambda values, share, interpolation=None: _quantile(values, share, method=interpolation or "linear")

import saliency.core as saliency  # noqa: E402
from pytorch_grad_cam import AblationCAM  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from saliency.core.xrai import _get_segments_felzenszwalb  # noqa: E402

SIZE = (16, 16)
BASELINE = -1.5


class ReLU6(torch.nn.ReLU):
    """A ReLU6 that captum takes for a ReLU."""

    def forward(self, x):
        return torch.nn.functional.relu6(x)


deep_lift.SUPPORTED_NON_LINEAR[ReLU6] = deep_lift.nonlinear


class Copy(torch.nn.Module):
    """Between a ReLU and a max pool: else captum's hooks on their tensor run in the wrong order."""

    def forward(self, x):
        return x * 1


class Small(torch.nn.Module):
    """Convolution, ReLU, max pool, convolution, ReLU6, mean, dense layer."""

    def __init__(self):
        super().__init__()
        self.first, self.relu = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.ReLU()
        self.pool = torch.nn.Sequential(Copy(), torch.nn.MaxPool2d(2))
        self.second, self.relu6 = torch.nn.Conv2d(6, 8, 3, padding=1), ReLU6()
        self.dense = torch.nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(self.relu(self.first(x)))
        return self.dense(self.relu6(self.second(x)).mean(dim=(2, 3)))


def small() -> Small:
    model, scale = Small(), {"first": 0.4, "second": 0.6, "dense": 1.0}
    state = {name: torch.from_numpy(centered(name, tuple(value.shape), scale[name.split(".")[0]]))
             for name, value in model.state_dict().items()}  # fmt: skip
    model.load_state_dict(state)
    return model.double().eval()


def to_numpy(values) -> np.ndarray:
    return values.detach().permute(0, 2, 3, 1).numpy().astype(np.float32)


def full_grad(model: Small, inputs, classes) -> np.ndarray:
    """Gradient times input and times bias, each part's magnitudes scaled over its channels, summed and upsampled."""
    kept = {}
    for name in ("first", "second", "relu6"):

        def keep(module, given, output, name=name):
            output.retain_grad()
            kept[name] = (given[0], output)

        getattr(model, name).register_forward_hook(keep)
    inputs = inputs.clone().requires_grad_(True)
    model(inputs).gather(1, classes[:, None]).sum().backward()
    terms = [inputs.grad * inputs]
    terms += [kept[name][1].grad * getattr(model, name).bias[:, None, None] for name in ("first", "second")]
    terms.append(kept["relu6"][1].grad * 6 * (kept["relu6"][0] > 6))
    maps = 0
    for term in terms:
        size = term.abs()
        low, high = (bound(size, dim=(1, 2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
        span = torch.where(high > low, high - low, torch.ones_like(high))
        summed = ((size - low) / span).sum(dim=1, keepdim=True)
        maps = maps + interpolate(summed, SIZE, mode="bilinear", align_corners=False)
    return to_numpy(maps)[..., 0]


def with_captum(model: Small, inputs, classes) -> dict[str, np.ndarray]:
    reference = torch.full_like(inputs, BASELINE)
    guided = GuidedGradCam(model, model.relu6).attribute(inputs, classes, interpolate_mode="bilinear")
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (captum draws from it)
    references = torch.from_numpy(np.float32(0.6 * uniform("references", (2, 3, *SIZE)) - 1.5))
    shap = GradientShap(small().float()).attribute(
        inputs.float(), references, n_samples=20_000, stdevs=0.0, target=classes
    )
    return {
        "deep_lift": to_numpy(DeepLift(model).attribute(inputs, reference, classes)),
        "guided_grad_cam": to_numpy(guided),
        "expected_gradients": to_numpy(shap),
    }


def with_saliency(model: Small, inputs, classes) -> dict[str, np.ndarray]:
    def gradient(images, call_model_args=None, expected_keys=None):
        images = torch.from_numpy(images).permute(0, 3, 1, 2).requires_grad_(True)
        (found,) = torch.autograd.grad(model(images)[:, call_model_args].sum(), images)
        return {"INPUT_OUTPUT_GRADIENTS": found.permute(0, 2, 3, 1).numpy()}

    paths = []
    for image, index in zip(inputs.permute(0, 2, 3, 1).numpy(), classes, strict=True):
        start = np.full_like(image, BASELINE)
        paths.append(saliency.GuidedIG().GetMask(image, gradient, int(index), start, 50, 0.25, 0.1))
    image = np.round(np.clip(synthetic_inputs((1, 64, 64, 3), seed=5)[0], -1, 1), 3)
    attribution = centered("attribution", (8, 8), 1.0).repeat(8, 0).repeat(8, 1) + centered("fine", (64, 64), 0.5)
    colors = np.stack([attribution, attribution - 1, attribution - 2], axis=-1)
    regions = _get_segments_felzenszwalb(image, resize_image=False)
    ranked = saliency.XRAI().GetMask(image, None, segments=regions, base_attribution=colors)
    return {
        "guided_ig": np.float32(paths),
        "xrai_segments": np.packbits(np.stack(regions)),
        "xrai": np.float32(ranked),
    }


def main() -> None:
    model = small()
    inputs = torch.from_numpy(synthetic_inputs((2, *SIZE, 3))).permute(0, 3, 1, 2).double()
    classes = model(inputs).argmax(dim=1)
    with AblationCAM(model=model, target_layers=[model.relu6]) as cam:
        targets = [ClassifierOutputTarget(int(index)) for index in classes]
        cam(input_tensor=inputs, targets=targets)
        seen = cam.activations_and_grads.activations[0].numpy()
        ablation = cam.get_cam_image(inputs, model.relu6, targets, seen, None, False)
    model = small()
    arrays = with_captum(model, inputs, classes) | with_saliency(model, inputs, classes)
    arrays |= {"ablation_cam": np.float32(ablation), "full_grad": full_grad(small(), inputs, classes)}
    scores = model(inputs).detach().numpy()
    beside = FOLDER / ".attribution_small.npz"
    np.savez_compressed(beside, **arrays, logits=scores)
    os.replace(beside, FOLDER / "attribution_small.npz")
    print({name: array.shape for name, array in arrays.items()}, scores)


if __name__ == "__main__":
    main()
