"""From a graph of tensor operations to a function that runs fast; it knows no program, and nothing of Pyro.

The files, in the order in which a graph meets them:

- `known`: what is kept on the disk, by a signature of its maker's: found there, nothing else is needed;
- `graph`: a function of tensors is lowered to plain operations;
- `rewrites`: some of these are put in place of others;
- `inductor`, `inductor_private`, `unit`: torch's compiler makes kernels of it, in one C++ file;
- `sealed`: what it links, with a checksum;
- `native`, `processor`, and the C++ beside them: what we have loops of our own for;
- `kernels`: one of these moves parameters, after a graph;
- `memory`, `denormals`: how a process keeps memory and small numbers meanwhile.
"""


class CompileError(RuntimeError):
    """A graph that cannot be compiled, or not here."""


__all__ = ["CompileError"]
