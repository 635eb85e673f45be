"""Makes golden/classifier_steps.npz: ten training steps of a small network by torch.

    python tests/oracles/make_classifier_golden.py

Made with torch 2.13.0 (not needed to run the tests), in double precision. The network is that of
`tests/training/tiny_classifier.py`, on synthetic weights; photographs are uint8, six a step. AdamW with the schedule,
the decay of kernels alone, the clipping and the label smoothing of `mlfem train classifier`. The file holds the
photographs, the loss of each step, the gradient of the first, and the state dict after the last.
"""

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from golden import FOLDER
from synthetic_weights import synthetic_state_dict, uniform
from torch import nn

STEPS, BATCH, SIZE, WARMUP, RATE, DECAY, CLIP, SMOOTHING = 10, 6, 16, 2, 1e-2, 1e-2, 1.0, 0.1


def network() -> nn.Sequential:
    """Three convolutions with batch norm, and a head on the means."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 8, 3, 2, 1, bias=False), bn1=nn.BatchNorm2d(8), relu1=nn.ReLU(),
            conv2=nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), bn2=nn.BatchNorm2d(8), relu2=nn.ReLU(),
            conv3=nn.Conv2d(8, 16, 1, bias=False), bn3=nn.BatchNorm2d(16), relu3=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(16, 4),
        )
    )  # fmt: skip


def rate(step: int) -> float:
    """Up along a line, down along a cosine."""
    if step < WARMUP:
        return RATE * step / WARMUP
    return RATE * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2


def main() -> None:
    """Trains, and writes the file."""
    model = network()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    weights = synthetic_state_dict(shapes)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    model.double().train()
    photos = (uniform("photos", (STEPS, BATCH, SIZE, SIZE, 3)) * 256).astype(np.uint8)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    kernels = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim == 1]
    groups = [{"params": kernels, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups)
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    labels, losses, gradient = torch.arange(BATCH) % 4, [], {}
    for step in range(STEPS):
        inputs = ((torch.from_numpy(photos[step]).double() / 255 - mean) / deviation).permute(0, 3, 1, 2)
        loss = criterion(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradient = {name: value.grad.numpy().copy() for name, value in model.named_parameters()}
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        losses.append(loss.item())
    after = {f"after/{name}": value.numpy() for name, value in model.state_dict().items()}
    steps = {"photos": photos, "losses": np.array(losses)}
    first = {f"gradient/{name}": value for name, value in gradient.items()}
    path = Path(FOLDER) / "classifier_steps.npz"
    np.savez_compressed(path, **{k: np.asarray(v) if k == "photos" else np.float32(v) for k, v in
                                 (steps | first | after).items()})  # fmt: skip
    print(f"{path.name}: {path.stat().st_size} bytes, losses {losses[0]:.4f} to {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
