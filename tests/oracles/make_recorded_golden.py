"""Makes golden/crepe_tiny.npz and golden/transnetv2.npz: what the packages make of synthetic weights and inputs.

    python tests/oracles/make_recorded_golden.py

Made with torch 2.14.1, torchcrepe 0.0.24 and transnetv2-pytorch 1.0.5, of which only the networks are imported (none is
needed to run the tests). Float64; each file holds the logits, what is behind every ReLU or block, and `state_dict`.
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch
from golden import write_golden
from synthetic_weights import centered, synthetic_state_dict, uniform


def loaded(package: str, module: str) -> types.ModuleType:
    """A module of a package whose other modules, and what they import, are left alone."""
    folder = Path(importlib.util.find_spec(package).origin).parent
    spec = importlib.util.spec_from_file_location(f"{package}_{module}", folder / f"{module}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def weigh(network: torch.nn.Module) -> dict[str, list[int]]:
    """Puts the synthetic weights into the network; their names and shapes."""
    shapes = {name: list(array.shape) for name, array in network.state_dict().items() if array.ndim}
    arrays = synthetic_state_dict({name: tuple(shape) for name, shape in shapes.items()})
    network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, strict=False)
    network.double().eval()
    return shapes


def hear(modules: dict[str, torch.nn.Module], change) -> dict[str, np.ndarray]:
    """What will come out of each module, channels last, once the network is called."""
    heard: dict[str, np.ndarray] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _, inputs, output, name=name: heard.update({name: change(output).numpy()}))
    return heard


def crepe() -> None:
    """Its input is a sound without a channel axis; the sigmoid is left out."""
    sys.modules["torchcrepe"] = types.SimpleNamespace(PITCH_BINS=360)
    folder = Path(next(path for path in sys.path if Path(path, "torchcrepe").is_dir()), "torchcrepe")
    spec = importlib.util.spec_from_file_location("crepe_model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.Crepe("tiny")
    shapes = weigh(network)
    modules = {f"conv{number}": getattr(network, f"conv{number}") for number in range(1, 7)}
    heard = hear(modules, lambda output: torch.relu(output)[..., 0].permute(0, 2, 1))
    logits = hear({"classifier": network.classifier}, lambda output: output)
    with torch.no_grad():
        network(torch.tensor(centered("sound", (2, 1024), 1.0)).double())
    write_golden("crepe_tiny", logits=logits["classifier"], activations=heard, state_dict=shapes)


def transnet() -> None:
    """A clip of 12 frames, for it takes any number."""
    module = loaded("transnetv2_pytorch", "transnetv2_pytorch")
    module.TransNetV2._load_pretrained_weights = lambda self: None
    network = module.TransNetV2(device="cpu")
    shapes = weigh(network)
    network.color_hist_layer.compute_color_histograms = lambda frames, of=module.ColorHistograms: (
        of.compute_color_histograms(frames).double()
    )
    names = {f"block{number}": block for number, block in enumerate(network.SDDCNN, start=1)}
    heard = hear(names, lambda output: output.permute(0, 2, 3, 4, 1))
    clip = torch.tensor((uniform("clip", (1, 12, 27, 48, 3)) * 256).astype(np.uint8))
    # Its forward takes uint8 alone, and makes float32 of it.
    torch.Tensor.float = torch.Tensor.double
    with torch.no_grad():
        logits, _ = network(clip)
    write_golden("transnetv2", logits=logits[..., 0].numpy(), activations=heard, state_dict=shapes)


if __name__ == "__main__":
    crepe()
    transnet()
