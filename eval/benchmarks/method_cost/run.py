"""What every explanation method costs: forwards that take as long, images/s, and the peers' in the same run.

    python -m eval.benchmarks.method_cost --out cost.json --markdown cost.md
    python -m eval.benchmarks.method_cost --out cost.json --markdown cost.md --compare    # beside captum and grad-cam

The comparison needs them: `pip install torch captum grad-cam efficientnet-lite-pytorch '.[weights,lime]'`.

A call takes uint8 images, on the device already (on the host for the peers), and ends with importance maps in [0, 1] of
the network's input size: the predicted class, upsampling and min-max are in it, for ours and for the peers. Ours, the
peer's and a bare forward are timed in turns, each after a first call that compiles. All use all cores.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from eval.benchmarks.common import noise, time_in_turns, write_json
from eval.benchmarks.method_cost.peers import Peer, torch_peers
from mlfem_jax import explain, load_backbone
from mlfem_jax.attribution import METHODS, accepted_options, methods, methods_on
from mlfem_jax.backbones import Backbone
from mlfem_jax.files import replacing
from mlfem_jax.report import markdown_table


@dataclasses.dataclass(frozen=True)
class Config:
    """What every explanation method costs.

    Attributes:
        out: the JSON file to write.
        markdown: the table to write as Markdown.
        backbone: see `load_backbone`; the comparison is with efficientnet_lite0.
        weights: see `load_backbone`.
        methods: names; empty is all.
        batch_size: images in a call.
        slow_batch_size: images in a call of a method that repeats forwards or gradients.
        repeats: most calls of each kind, whose median counts.
        limit_s: a call is not repeated once it has taken this many seconds, so a slow one is repeated once.
        compare: also time captum's and grad-cam's methods.
    """

    out: Path
    markdown: Path | None = None
    backbone: str = "efficientnet_lite0"
    weights: str | None = None
    methods: tuple[str, ...] = ()
    batch_size: int = 16
    slow_batch_size: int = 2
    repeats: int = 5
    limit_s: float = 20.0
    compare: bool = False

    def __post_init__(self) -> None:
        """Refuses what would fail only after the first measurements."""
        unknown = sorted(set(self.methods) - set(methods()))
        if unknown:
            raise ValueError(f"methods: expected some of {', '.join(methods())}, got {', '.join(unknown)}")
        if self.compare and self.backbone != "efficientnet_lite0":
            raise ValueError(f"backbone: expected efficientnet_lite0 with --compare, got {self.backbone!r}")
        if min(self.batch_size, self.slow_batch_size, self.repeats) < 1:
            raise ValueError(f"batch_size, slow_batch_size and repeats: expected at least 1 each, got {self}")


def main(config: Config) -> None:
    """Times all methods, prints the table, and writes it."""
    backbone = load_backbone(config.backbone, config.weights)
    peers = torch_peers() if config.compare else {}
    rows = [measure(backbone, name, peers, config) for name in config.methods or methods_on(backbone)]
    forward = {package: _median([row[package] for row in rows if package in row]) for package in ("forward", "torch")}
    speeds = {name: 1 / seconds for name, seconds in forward.items() if seconds}
    report = [_row(row, peers, forward["forward"]) for row in rows]
    text = as_markdown(speeds, report)
    Console().print(Markdown(text))
    write_json(config.out, config, forward_images_per_s=speeds, rows=report)
    if config.markdown is not None:
        with replacing(config.markdown) as file:
            file.write(text.encode())


def measure(backbone: Backbone, name: str, peers: dict[str, Peer], config: Config) -> dict[str, Any]:
    """Seconds an image of our method, of its peer, and of bare forwards timed between them."""
    slow = METHODS[name].needs == "forwards" or {"internal_batch_size", "steps"} & {*accepted_options(name)}
    batch = _images(backbone, config.slow_batch_size if slow else config.batch_size)
    whole = _images(backbone, config.batch_size)
    device, whole_device = jnp.asarray(batch), jnp.asarray(whole)
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: explain(backbone, device, method=name, batch_size=len(batch))
    }
    calls["forward"] = lambda: _forward(backbone, whole_device)
    if name in peers:
        calls["peer"] = lambda: peers[name].call(batch)
    if "forward" in peers:
        calls["torch"] = lambda: peers["forward"].call(whole)
    timings = time_in_turns(calls, config.repeats, limit_s=config.limit_s)
    seconds = {what: timing.seconds for what, timing in timings.items()}
    images = {"ours": len(batch), "peer": len(batch), "forward": len(whole), "torch": len(whole)}
    print(
        f"{name}: " + ", ".join(f"{what} {images[what] / value:.3g}/s" for what, value in seconds.items()), flush=True
    )
    return {"method": name, "batch_size": len(batch), **{what: seconds[what] / images[what] for what in seconds}}


def as_markdown(forward: dict[str, float], rows: list[dict[str, Any]]) -> str:
    """The table, with the bare forwards' images/s as its first row."""
    lines = [_cells("bare forward", "", 1.0, forward["forward"], "torch", forward.get("torch"))]
    lines += [
        _cells(row["method"], row["needs"], row["forwards"], row["images_per_s"], row["peer"], row["peer_images_per_s"])
        for row in rows
    ]
    header = ("method", "needs", "forwards", "images/s", "peer's images/s", "ratio")
    return markdown_table(header, lines) + "\n"


def _cells(name: str, needs: str, forwards: float, ours: float, peer: str | None, theirs: float | None) -> list[str]:
    beside = [f"{theirs:.3g} ({peer})", f"{ours / theirs:.2g}"] if theirs else ["", ""]
    return [name, needs, f"{forwards:.2g}", f"{ours:.3g}", *beside]


def _row(row: dict[str, Any], peers: dict[str, Peer], forward_s: float) -> dict[str, Any]:
    name = row["method"]
    return {
        "method": name,
        "needs": METHODS[name].needs,
        "batch_size": row["batch_size"],
        "forwards": row["ours"] / forward_s,
        "images_per_s": 1 / row["ours"],
        "peer": peers[name].package if "peer" in row else None,
        "peer_images_per_s": 1 / row["peer"] if "peer" in row else None,
    }


@jax.jit
def _forward(backbone: Backbone, images: jax.Array) -> jax.Array:
    return backbone.apply(backbone.params, backbone.preprocess(images))[0]


def _images(backbone: Backbone, count: int) -> np.ndarray:
    """Coarse noise: time does not depend on what an image shows, but superpixels need something to follow."""
    height, width = backbone.input_size
    large = noise(count, 8, 8, 3).repeat(-(-height // 8), axis=1).repeat(-(-width // 8), axis=2)
    return np.ascontiguousarray(large[:, :height, :width])


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else 0.0
