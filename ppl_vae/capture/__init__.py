"""A function of tensors captured once as a graph of tensor operations, compiled, and run without Python.

It knows no model: a gradient step is captured by `ppl_vae.train`, Pyro's own by `ppl_vae.svi`, scores by
`ppl_vae.evaluate`. The files, in the order in which a program meets them:

- `watched`, `numbers`: the tensors and the plain values that a program reads, found where they stand;
- `recorder`, `recording`, `surroundings`, `operators`: it runs once, and every operation is written down;
- `comparing`: two recordings are held against each other;
- `signature`, `known`: what was recorded may have been compiled before, and then it is on the disk;
- `graph`, `rewrites`, `inductor`, `unit`: else it is traced, rewritten and compiled;
- `moves`, `kernels`, `clipping`: optimizers move parameters by the gradients that the graph gives out;
- `held`, `guard`: the graph runs, and is held against the program now and then;
- `function`: all of this for any function of tensors; `worth`: whether it pays.
"""

from ppl_vae.capture.capture_error import CaptureError

__all__ = ["CaptureError"]
