"""`python -m ppl_vae.cli`, the same as `ppl-vae`."""

import sys

from ppl_vae.cli import main

if __name__ == "__main__":
    sys.exit(main())
