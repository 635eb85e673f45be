"""Layer-wise relevance propagation: the class score handed back, layer by layer, to what contributed to it.

It is written as another backward pass: in a network whose parts follow `rules`, what `jax.vjp` carries back is not a
gradient but the relevance, and every part splits it among its inputs by its own rule. For an affine part with outputs
z_j = sum_i x_i w_ij + b_j, input i receives the sum over j of r_j q_ij / (sum_i q_ij + the bias' share), where

- epsilon: q_ij = x_i w_ij;
- gamma: q_ij = x_i w_ij + gamma times the part of x_i w_ij that has the sign of z_j;
- alpha1_beta0: q_ij = max(x_i w_ij, 0), the z+ rule;
- z-box, for the image: q_ij = x_i w_ij - low_i max(w_ij, 0) - high_i min(w_ij, 0).

ReLUs hand relevance through, and so do GELUs and their kin; max pools give it to the maximum; means and residual sums
follow the epsilon rule, and so do layer norms, whose deviation counts as a constant. What attention does with it is
told by `attention`:

- "attn": a product of two activations z_j = sum_i a_i b_ij splits relevance evenly, each half by the epsilon rule; the
  softmax s of scores x gives score i the relevance x_i (r_i - s_i sum_j r_j).
- "cp": attention is a constant: a product gives all to the second operand (the values, what passes a gate), the softmax
  nothing.

The relevance of the image is the logit, minus what the biases took (z-box has no bias).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlfem_jax.attribution.base import Entry, finish
from mlfem_jax.attribution.lrp_rules import relevance_rules
from mlfem_jax.attribution.target import class_score
from mlfem_jax.backbones import Forward


def relevance(
    forward: Forward,
    *,
    rule: str = "composite",
    first: str = "z_box",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    attention: str = "attn",
) -> Float[Array, " N *S C"]:
    """The relevance of every value of the preprocessed image for the logit, signed; computed in float32 throughout.

    Args:
        forward: the batch; several classes start from their logits together.
        rule: of the convolutions and dense layers; "composite" is gamma for the convolutions and epsilon for the dense
            layers.
        first: rule of the convolution that sees the image: "z_box", bounded by a black and a white image, or the
            "same" as of the others.
        epsilon: added to every denominator, with its sign, so that none is zero; what it takes is lost.
        gamma: how much the gamma rule favors contributions of the output's sign.
        attention: "attn" or "cp", see above; of a network without attention and gates they are the same.

    Returns:
        (N, H, W, 3) float32. Without biases it sums to the logit, but for what alpha1_beta0 loses at outputs without
        any positive contribution. Behind a ReLU those receive no relevance; the projections of EfficientNet-Lite have
        no ReLU, and with the trained weights, their biases left out, 0.4 and 0.5 % of the relevance of two photographs
        ends there, all of it at the first block's; epsilon and composite lose less than 0.01 %.

    Raises:
        ValueError: an unknown rule, or a backbone whose parts cannot follow other rules; it lists what is possible.

    Source:
        Bach et al., On Pixel-Wise Explanations (2015), equations 58 and 60 (epsilon, alpha-beta). Montavon et al.,
        Layer-Wise Relevance Propagation: An Overview (2019), table 10.1 (gamma, z-box) and section 10.3 (composite).
        Gamma for contributions of both signs: as in zennit (Anders et al., 2021). Achtibat et al., AttnLRP (2024),
        propositions 3.1, 3.3 and 3.4; Ali et al., XAI for Transformers: Better Explanations through Conservative
        Propagation (2022), section 4 ("cp").
    """
    forward = dataclasses.replace(
        forward, backbone=forward.backbone.astype(jnp.float32), inputs=forward.inputs.astype(jnp.float32)
    )
    rules = relevance_rules(forward, rule=rule, first=first, epsilon=epsilon, gamma=gamma, attention=attention)
    with jax.default_matmul_precision("highest"):  # else an accelerator loses relevance in the third digit
        logits, pull_back = jax.vjp(lambda inputs: forward.run(inputs, rules=rules), forward.inputs)
        # One for each class to explain; of a function of the logits, how much each of them counts.
        chosen = jax.grad(lambda logits: class_score(logits, forward.classes).sum())(logits)
        return pull_back(logits * chosen)[0]


def lrp_maps(
    forward: Forward,
    *,
    rule: str = "composite",
    first: str = "z_box",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    attention: str = "attn",
    sign: str = "positive",
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """`relevance` summed over the colors. `sign`: the papers show both signs in two colors."""
    values = relevance(forward, rule=rule, first=first, epsilon=epsilon, gamma=gamma, attention=attention)
    return finish(values.sum(axis=-1), forward.size, sign=sign, raw=raw)


def attn_lrp_maps(
    forward: Forward,
    *,
    rule: str = "gamma",
    first: str = "same",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    sign: str = "positive",
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """AttnLRP: `lrp_maps` through attention; its authors advise the gamma rule for vision transformers."""
    options = {"rule": rule, "first": first, "epsilon": epsilon, "gamma": gamma, "sign": sign, "raw": raw}
    return lrp_maps(forward, attention="attn", **options)


def cp_lrp_maps(
    forward: Forward,
    *,
    rule: str = "epsilon",
    first: str = "same",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    sign: str = "positive",
    raw: bool = False,
) -> Float[Array, " N *S"]:
    """CP-LRP: `lrp_maps` past the attention, which counts as a constant."""
    options = {"rule": rule, "first": first, "epsilon": epsilon, "gamma": gamma, "sign": sign, "raw": raw}
    return lrp_maps(forward, attention="cp", **options)


METHODS = {
    "lrp": Entry(lrp_maps, "gradient", "LRP: the logit handed back from layer to layer", of_class=True),
    "attn_lrp": Entry(attn_lrp_maps, "gradient", "AttnLRP: the logit handed back through attention", of_class=True),
    "cp_lrp": Entry(cp_lrp_maps, "gradient", "CP-LRP: the logit handed back, attention as it is", of_class=True),
}
