"""A program captured once as a graph of tensor operations, and held against it while the compiled graph runs.

It knows no model: a gradient step is captured by `ppl_vae.train`, Pyro's own by `ppl_vae.svi`, scores by
`ppl_vae.evaluate`. The files, in the order in which a program meets them:

- `watched`, `numbers`: the tensors and the plain values that a program reads, found where they stand;
- `first_run`: it runs once for nothing, since programs make things at their first;
- `recorder`, `recording`, `surroundings`, `operators`: it runs, and every operation is written down;
- `before`: what lay in memory before that, and does again afterwards;
- `comparing`: two recordings are held against each other;
- `signature`: what was recorded, by a name under which `ppl_vae.compiler` may know it;
- `held`, `guard`: the graph that the compiler makes runs, and is held against the program now and then;
- `moves`, `clipping`: optimizers move parameters by the gradients that the graph gives out;
- `function`: all of this for any function of tensors; `worth`: whether it pays.
"""

from ppl_vae.capture.capture_error import CaptureError

__all__ = ["CaptureError"]
