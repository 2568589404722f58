"""A function of tensors captured once as a graph of tensor operations, compiled, and run without Python.

It knows no model: a gradient step is captured by `ppl_vae.train`, Pyro's own by `ppl_vae.svi`, scores by
`ppl_vae.evaluate`.
"""

from ppl_vae.capture.capture_error import CaptureError

__all__ = ["CaptureError"]
