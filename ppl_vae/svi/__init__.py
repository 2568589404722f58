"""`pv.SVI`: Pyro's own SVI, whose step is one compiled graph where it is asked for."""

from ppl_vae.svi.svi import SVI

__all__ = ["SVI"]
