"""What every metric of `mlfem score` costs: images/s of one map an image, and in forwards that take as long.

    python -m eval.benchmarks.metric_cost --out cost.json --markdown cost.md
    python -m eval.benchmarks.metric_cost --metrics irof random_logit --batch-size 1

The map is there already; metrics that ask the method for more maps get `--method`. Each metric and a bare forward are
timed in turns, after a first call that compiles.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from eval.benchmarks.common import noise, print_row, time_in_turns, write_json
from mlfem_jax import attribution, gaze_density, load_backbone
from mlfem_jax.backbones import Backbone
from mlfem_jax.cli import run_command
from mlfem_jax.files import replacing
from mlfem_jax.metrics import fixation_counts
from mlfem_jax.report import markdown_table
from mlfem_jax.scores import METRICS, Gaze, metric_names


@dataclasses.dataclass(frozen=True)
class Config:
    """What every metric costs.

    Attributes:
        metrics: as for `mlfem score`.
        method: whose maps are asked for by metrics against the method.
        backbone: see `mlfem backbones`.
        batch_size: images in a call.
        fixations: on each image.
        repeats: most calls of each, whose median counts.
        limit_s: a call is not repeated once it has taken this many seconds.
        out: the JSON file to write.
        markdown: the table to write as Markdown.
    """

    metrics: tuple[str, ...] = ("all",)
    method: str = "grad_cam"
    backbone: str = "efficientnet_lite0"
    batch_size: int = 4
    fixations: int = 150
    repeats: int = 3
    limit_s: float = 20.0
    out: Path | None = None
    markdown: Path | None = None


def main(config: Config) -> None:
    """Times all metrics, prints each, and writes the table."""
    backbone = load_backbone(config.backbone)
    rows = [measure(backbone, name, config) for name in metric_names(config.metrics)]
    write_json(config.out, config, rows=rows)
    if config.markdown is not None:
        cells = [[f"`{row['metric']}`", row["against"], f"{row['forwards']:.2g}", f"{row['images_per_s']:.3g}"]
                 for row in rows]  # fmt: skip
        with replacing(config.markdown) as file:
            file.write(markdown_table(("metric", "asks", "cost in forwards", "images/s"), cells).encode() + b"\n")


def measure(backbone: Backbone, name: str, config: Config) -> dict[str, Any]:
    """One metric's images/s, and its seconds over those of a bare forward."""
    images = jnp.asarray(noise(config.batch_size, *backbone.photo_size, 3))
    maps = jax.random.uniform(jax.random.key(0), images.shape[:3])
    run = jax.jit(_scored(name, config.method))
    gaze = _gaze(backbone.photo_size, config)
    timings = time_in_turns(
        {"metric": lambda: run(backbone, images, maps, gaze), "forward": lambda: _forward(backbone, images)},
        config.repeats,
        limit_s=config.limit_s,
    )
    seconds = timings["metric"].seconds
    row = {"metric": name, "against": METRICS[name].against, "images_per_s": config.batch_size / seconds,
           "forwards": seconds / timings["forward"].seconds}  # fmt: skip
    print_row(row)
    return row


def _scored(name: str, method: str) -> Callable[..., Any]:
    """(backbone, images, maps, gaze) to the scores of the images."""
    metric = METRICS[name]
    key, asked = jax.random.key(0), attribution.method(method)

    def scored(backbone, images, maps, gaze):
        match metric.against:
            case "gaze":
                return jax.vmap(metric.function)(maps, gaze)
            case "map":
                return jax.vmap(metric.function)(maps)
            case "method":
                return jax.lax.map(lambda image: metric.function(backbone, key, image, method=asked), images)
        function = metric.function
        return jax.lax.map(lambda pair: function(backbone, *pair, target=None, output="softmax"), (images, maps))

    return scored


def _gaze(shape: tuple[int, int], config: Config) -> Gaze:
    """Where nobody looked: places at random."""
    count = config.batch_size
    fixations = np.random.default_rng(0).uniform(0, 1, (count, config.fixations, 2)) * np.array(shape)
    points = jnp.asarray(fixations, jnp.float32)
    density = jax.vmap(lambda own: gaze_density(own, shape, sigma_px=shape[0] / 25))(points)
    return Gaze(
        density=density,
        fixations=points,
        mask=jnp.ones(points.shape[:2], bool),
        content_box=jnp.tile(jnp.array([[0, 0, *shape]], jnp.int32), (count, 1)),
        others=jax.vmap(lambda own: fixation_counts(own, shape))(points[::-1]),
        prior=density[::-1],
        sigma_px=jnp.full((count, 2), shape[0] / 25, jnp.float32),
    )


@jax.jit
def _forward(backbone: Backbone, images: jax.Array) -> jax.Array:
    return backbone.apply(backbone.params, backbone.preprocess(images))[0]


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.metric_cost", lambda: main(tyro.cli(Config))))
