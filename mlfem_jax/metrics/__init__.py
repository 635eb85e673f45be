"""How far a map agrees with human gaze: one pair in, one number out, pure; batches are made with `jax.vmap`.

Maps and densities are (H, W); fixations are (n, 2) as (y, x) in pixels, (0, 0) the center of the upper left pixel, as
in `mlfem.gaze_density`. Four rules hold for every metric:

- Statistics are float32 whatever the maps' dtype.
- What is undefined is NaN, whichever of the two is at fault, and the caller counts it: a constant map or density, one
  that holds NaN or infinity, no fixation. The gradient is zero there, and finite elsewhere.
- `content_box` (y0, x0, y1, x1), half open, may be traced: only the pixels in it exist. It is for bars that pad a
  photograph (CAT2000, letterbox), which no one looks at and which would flatter every map.
- `mask` (n,) is False for entries that only pad a list of fixations. A fixation belongs to the pixel that its
  coordinates round to (halves up), counts as often as it is listed, and for nothing outside the frame or the box.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
