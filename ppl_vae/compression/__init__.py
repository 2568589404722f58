r"""Compression: data as a file, coded losslessly with a pair, and back.

A pair whose likelihood factorises and is discrete is a code: bits-back coding with asymmetric numeral systems
(`constriction`) comes to its bound, the negative ELBO in bits, or the K-sample bound.

====================  =========================================================================
`compress`            data to a file, with the rate beside -ELBO and the classical coders
`decompress`          the data again, bit for bit
`Compressed`          what `compress` says of it
`CompressionError`    a file that cannot be decoded here, and why
====================  =========================================================================
"""

from ppl_vae.compression.calls import compress, decompress
from ppl_vae.compression.errors import CompressionError
from ppl_vae.compression.result import Compressed

__all__ = ["Compressed", "CompressionError", "compress", "decompress"]
