"""Sound: CREPE, which hears a burst of a tone in noise."""

import dataclasses

import numpy as np

from eval.experiments.any_data.kinds import Kind, all_methods, event_maps
from mlfem_jax import load_backbone, map_batches

LENGTH = 400
_SAMPLES, _SAMPLES_PER_S = 1024, 16_000
LEFT_OUT = ("score_cam", "ablation_cam", "guided_ig")
"""For they take as many forwards as there are channels, or steps."""
OPTIONS = {
    "occlusion": {"window_px": 64, "stride_px": 32, "score": "logit"},
    "rise": {"samples": 64, "cells": 16, "score": "logit"},
    "lime": {"samples": 64, "segments": 32, "score": "logit"},
    "smooth_grad": {"samples": 8},
    "var_grad": {"samples": 8},
    "integrated_gradients": {"steps": 16},
}


def sound_kind(*, examples: int, seed: int = 0) -> Kind:
    """Bursts of 200 to 800 Hz, 25 ms long, anywhere in 64 ms of noise; explained is the pitch that is there."""
    backbone, draw = load_backbone("crepe_tiny"), np.random.default_rng(seed)
    hertz = np.array([float(label.split()[0]) for label in backbone.labels])
    sounds = draw.normal(0, 0.1, (examples, _SAMPLES)).astype(np.float32)
    starts = draw.integers(0, _SAMPLES - LENGTH, size=examples)
    pitches = draw.uniform(200, 800, size=examples)
    for sound, start, pitch in zip(sounds, starts, pitches, strict=True):
        tone = np.sin(2 * np.pi * pitch * np.arange(LENGTH) / _SAMPLES_PER_S + draw.uniform(0, 2 * np.pi))
        sound[start : start + LENGTH] += tone * np.hanning(LENGTH)
    targets = np.abs(np.log(hertz)[None] - np.log(pitches)[:, None]).argmin(axis=1)
    heard = [int(logits.argmax()) for logits in map_batches(backbone, sounds, lambda forward: forward.logits)]
    masks, events = event_maps(starts[:, None], (LENGTH,), (_SAMPLES,))
    return Kind(
        name="sound: a tone in noise, CREPE tiny",
        trained=backbone,
        untrained=dataclasses.replace(backbone, params=load_backbone("crepe_tiny", weights="random").params),
        examples=sounds,
        targets=targets,
        masks=masks,
        events=events,
        methods=all_methods(backbone, OPTIONS, leave_out=LEFT_OUT),
        accuracy=float(np.mean(np.abs(np.array(heard) - targets) <= 2)),  # 40 cents
    )
