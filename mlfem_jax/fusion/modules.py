"""The layers of the fusion networks, in Flax NNX; `network.py` splits them into a pure function and parameters."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Features = Float[Array, "N _h _w _c"]

# The default precision of accelerators (TF32, bfloat16) is wrong in the third digit.
_EXACT = jax.lax.Precision.HIGHEST


class Conv(nnx.Module):
    """A convolution with bias; edges are repeated, so that a border looks like what is next to it."""

    def __init__(self, channels_in: int, channels_out: int, size: int, rngs: nnx.Rngs):
        """He-normal kernel, zero bias."""
        shape = (size, size, channels_in, channels_out)
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels_out,), jnp.float32))

    def __call__(self, inputs: Features) -> Features:
        """(N, h, w, channels_in) to (N, h, w, channels_out)."""
        kernel, margin = self.kernel[...], self.kernel.shape[0] // 2
        padded = jnp.pad(inputs, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
        outputs = jax.lax.conv_general_dilated(
            padded, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=_EXACT
        )
        return outputs + self.bias[...][None, None, None]


class Block(nnx.Module):
    """Convolution, group norm (of one example, so a batch's size changes nothing), ReLU."""

    def __init__(self, channels_in: int, channels_out: int, rngs: nnx.Rngs):
        """A 3x3 convolution, then a gain and an offset for each channel."""
        self.conv = Conv(channels_in, channels_out, 3, rngs)
        self.scale = nnx.Param(jnp.ones((channels_out,), jnp.float32))
        self.shift = nnx.Param(jnp.zeros((channels_out,), jnp.float32))

    def __call__(self, inputs: Features) -> Features:
        """(N, h, w, channels_in) to (N, h, w, channels_out)."""
        normed = _group_norm(self.conv(inputs))
        return jax.nn.relu(normed * self.scale[...][None, None, None] + self.shift[...][None, None, None])


class PaperLayers(nnx.Module):
    """Of `mlfem_jax.fusion.network.PaperNet`."""

    def __init__(self, depth: int, rngs: nnx.Rngs):
        """`depth` maps go in."""
        self.convs = nnx.List([Conv(depth * 2**i, depth * 2 ** (i + 1), 3, rngs) for i in range(3)])
        self.weights = Conv(depth * 8, 1, 1, rngs)

    def __call__(self, maps: Features, key: jax.Array | None) -> Float[Array, "N _h _w"]:
        """(N, H, W, depth) to (N, H / 4, W / 4); there is no dropout, so `key` is not used."""
        features = mean_pool(jax.nn.relu(self.convs[0](maps)), 2)
        features = mean_pool(jax.nn.relu(self.convs[1](features)), 2)
        return self.weights(jax.nn.relu(self.convs[2](features)))[..., 0]


class UNetLayers(nnx.Module):
    """A gain for each map, blocks down to the coarsest level and up again, and a blurred softmax."""

    def __init__(
        self, channels: int, *, width: int, levels: int, position: bool, dropout: float, blur: float, rngs: nnx.Rngs
    ):
        """As `mlfem_jax.fusion.network.UNet`; `blur` is a sigma in pixels of the finest level."""
        self.position, self.dropout, self.sigma = position, dropout, blur
        widths = [width * (level + 1) for level in range(levels)]
        entering = [channels + 2 * position, *widths[:-1]]
        self.gain = nnx.Param(jnp.ones((channels,), jnp.float32))
        self.down = nnx.List([Block(before, width, rngs) for before, width in zip(entering, widths, strict=True)])
        self.bottom = Block(widths[-1], widths[-1], rngs)
        pairs = list(itertools.pairwise(widths))
        self.up = nnx.List([Block(fine + coarse, fine, rngs) for fine, coarse in reversed(pairs)])
        self.weights = Conv(widths[0], 1, 1, rngs)

    def __call__(self, maps: Features, key: jax.Array | None) -> Float[Array, "N _h _w"]:
        """(N, h, w, channels) to densities of the same size."""
        features = _dropped(maps * self.gain[...][None, None, None], self.dropout / 2, key, 0)
        if self.position:
            features = jnp.concatenate([features, _squared_distances(maps.shape)], axis=-1)
        skipped = []
        for level, block in enumerate(self.down):
            features = block(mean_pool(features, 2) if level else features)
            skipped.append(features)
        features = _dropped(self.bottom(features), self.dropout, key, 1)
        for block, finer in zip(self.up, reversed(skipped[:-1]), strict=True):
            # Not `upsample`, whose gradient scatters: this one is a matrix product, both ways.
            doubled = jax.image.resize(features, (*finer.shape[:3], features.shape[3]), "linear")
            features = block(jnp.concatenate([doubled, finer], axis=-1))
        features = _dropped(features, self.dropout, key, 2)
        logits = self.weights(features)[..., 0]
        return blur(jax.nn.softmax(logits, axis=(1, 2)), sigma=self.sigma)


class SumLayers(nnx.Module):
    """The sum of all maps, blurred by a learned width: a density, blank where they are."""

    def __init__(self, blur: float):
        """`blur` is a sigma in pixels of the maps, to start from."""
        self.start, self.growth = blur, nnx.Param(jnp.zeros((1,)))

    def __call__(self, maps: Features, key: jax.Array | None) -> Float[Array, "N _h _w"]:
        """(N, h, w, channels) to densities of the same size; there is no dropout, so `key` is not used."""
        return blur(jnp.maximum(maps.sum(axis=-1), 0.0), sigma=self.start * jnp.exp(self.growth[...][0]))


class WeightLayers(nnx.Module):
    """Of `mlfem_jax.fusion.network.WeightedSum`."""

    def __init__(self, channels: int):
        """Equal weights to start from."""
        self.logits = nnx.Param(jnp.zeros((channels,), jnp.float32))

    def __call__(self, maps: Float[Array, "N ... _c"], key: jax.Array | None) -> Float[Array, "N ..."]:
        """(N, *S, channels) to densities (N, *S), blank where the maps are; there is no dropout: `key` is not used."""
        summed = jnp.tensordot(maps, jax.nn.softmax(self.logits[...]), axes=1, precision=_EXACT)
        total = summed.sum(axis=tuple(range(1, summed.ndim)), keepdims=True)
        return summed / jnp.maximum(total, 1e-7)


def mean_pool(features: Features, factor: int) -> Features:
    """Means over squares of side `factor`, edges repeated up to a multiple of it."""
    count, height, width, channels = features.shape
    missing = (-height % factor, -width % factor)
    if any(missing):
        features = jnp.pad(features, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    rows, columns = (height + missing[0]) // factor, (width + missing[1]) // factor
    return features.reshape(count, rows, factor, columns, factor, channels).mean(axis=(2, 4))


def _group_norm(features: Features) -> Features:
    """Groups of up to 8 channels of each example at mean 0 and variance 1."""
    count, height, width, channels = features.shape
    groups = max(1, channels // 8) if channels % 8 == 0 else 1
    grouped = features.reshape(count, height, width, groups, channels // groups)
    mean = grouped.mean(axis=(1, 2, 4), keepdims=True)
    centered = grouped - mean
    variance = jnp.square(centered).mean(axis=(1, 2, 4), keepdims=True)
    return (centered * jax.lax.rsqrt(variance + 1e-6)).reshape(features.shape)


def _dropped(features: Features, share: float, key: jax.Array | None, layer: int) -> Features:
    """Whole channels blanked, the others raised to keep the mean; nothing without a key."""
    if key is None or share == 0:
        return features
    shape = (len(features), 1, 1, features.shape[3])
    kept = jax.random.bernoulli(jax.random.fold_in(key, layer), jnp.float32(1 - share), shape)
    return jnp.where(kept, features / (1 - share), 0.0)


def _squared_distances(shape: tuple[int, ...]) -> Float[Array, "N H W 2"]:
    """Squared distance from the center along y and along x, 1 at the borders."""
    axes = (jnp.square(jnp.linspace(-1, 1, size, dtype=jnp.float32)) for size in shape[1:3])
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
    return jnp.broadcast_to(grid[None], (shape[0], *grid.shape))


def blur(density: Float[Array, "N _h _w"], sigma: float | Float[Array, ""]) -> Float[Array, "N _h _w"]:
    """Maps after a Gaussian blur that leaves an even one even, each summing to 1; a blank one stays blank.

    At the borders it averages what there is. `sigma` is in pixels of the maps.
    """

    def averages(length):
        places = jnp.arange(length, dtype=jnp.float32)
        weights = jnp.exp(-0.5 * jnp.square((places[:, None] - places[None, :]) / sigma))
        return weights / weights.sum(axis=1, keepdims=True)

    rows, columns = averages(density.shape[1]), averages(density.shape[2])
    blurred = jnp.einsum("ij,njk,lk->nil", rows, density, columns, precision=_EXACT)
    return blurred / jnp.maximum(blurred.sum(axis=(1, 2), keepdims=True), 1e-7)
