"""Nets: encoders, decoders and their building blocks, for any number of leading batch dims."""

from ppl_vae.nets.activations import ACTIVATIONS, Activation
from ppl_vae.nets.column_encoder import ColumnEncoder
from ppl_vae.nets.column_features import ColumnFeatures
from ppl_vae.nets.contracts import Decoder, LocScaleEncoder, ShapedEncoder
from ppl_vae.nets.conv import ConvDecoder, ConvEncoder
from ppl_vae.nets.encoder import Encoder
from ppl_vae.nets.initialisation import centre_output, initialise
from ppl_vae.nets.mlp import MLP, MLPDecoder, MLPEncoder
from ppl_vae.nets.pixel_cnn import PixelCNN
from ppl_vae.nets.residual import ResidualDecoder, ResidualEncoder
from ppl_vae.nets.scale import LocScale, inverse_positive_scale, positive_scale

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "ColumnEncoder",
    "ColumnFeatures",
    "ConvDecoder",
    "ConvEncoder",
    "Decoder",
    "Encoder",
    "LocScale",
    "LocScaleEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "PixelCNN",
    "ResidualDecoder",
    "ResidualEncoder",
    "ShapedEncoder",
    "centre_output",
    "initialise",
    "inverse_positive_scale",
    "positive_scale",
]
