"""A gradient step captured once as a graph of tensor operations, compiled, and run without Python."""

from ppl_vae.capture.captured import CapturedStep
from ppl_vae.capture.errors import CaptureError
from ppl_vae.capture.graph import worth_capturing

__all__ = ["CaptureError", "CapturedStep", "worth_capturing"]
