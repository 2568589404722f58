"""Nets: encoders, decoders and their building blocks, for any number of leading batch dims."""

from ppl_vae.core.plain_numbers import take_plain_numbers
from ppl_vae.nets.activations import ACTIVATIONS, Activation
from ppl_vae.nets.codebook import Codebook, CodebookDecoder
from ppl_vae.nets.column_encoder import ColumnEncoder
from ppl_vae.nets.column_features import ColumnFeatures
from ppl_vae.nets.contracts import Decoder, LocScaleEncoder, ShapedEncoder
from ppl_vae.nets.conv import ConvDecoder, ConvEncoder
from ppl_vae.nets.conv_bottom_up import ConvBottomUp
from ppl_vae.nets.conv_denoiser import ConvDenoiser
from ppl_vae.nets.conv_top_down import ConvTopDown
from ppl_vae.nets.denoisers import Denoiser, MLPDenoiser
from ppl_vae.nets.encoder import Encoder
from ppl_vae.nets.incomplete import BesideMask, IncompleteEncoder
from ppl_vae.nets.initialisation import centre_output, initialise
from ppl_vae.nets.ladder_paths import BottomUpPath, TopDownPath
from ppl_vae.nets.markov import Combiner, GatedTransition
from ppl_vae.nets.metric import RiemannianMetric
from ppl_vae.nets.mlp import MLP, MLPDecoder, MLPEncoder
from ppl_vae.nets.noise_schedule import NoiseSchedule
from ppl_vae.nets.pixel_cnn import PixelCNN
from ppl_vae.nets.recurrent import Recurrent
from ppl_vae.nets.residual import ResidualDecoder, ResidualEncoder
from ppl_vae.nets.residual_codebook import ResidualCodebook, ResidualCodebookDecoder
from ppl_vae.nets.scale import LocScale, inverse_positive_scale, positive_scale
from ppl_vae.nets.spatial_transformer import SpatialTransformer
from ppl_vae.nets.strings import StringEncoder, StringFeatures
from ppl_vae.nets.transformer import TransformerBlock
from ppl_vae.nets.transformer_strings import TransformerStringEncoder, TransformerStringFeatures

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "BesideMask",
    "BottomUpPath",
    "Codebook",
    "CodebookDecoder",
    "ColumnEncoder",
    "ColumnFeatures",
    "Combiner",
    "ConvBottomUp",
    "ConvDecoder",
    "ConvDenoiser",
    "ConvEncoder",
    "ConvTopDown",
    "Decoder",
    "Denoiser",
    "Encoder",
    "GatedTransition",
    "IncompleteEncoder",
    "LocScale",
    "LocScaleEncoder",
    "MLPDecoder",
    "MLPDenoiser",
    "MLPEncoder",
    "NoiseSchedule",
    "PixelCNN",
    "Recurrent",
    "ResidualCodebook",
    "ResidualCodebookDecoder",
    "ResidualDecoder",
    "ResidualEncoder",
    "RiemannianMetric",
    "ShapedEncoder",
    "SpatialTransformer",
    "StringEncoder",
    "StringFeatures",
    "TopDownPath",
    "TransformerBlock",
    "TransformerStringEncoder",
    "TransformerStringFeatures",
    "centre_output",
    "initialise",
    "inverse_positive_scale",
    "positive_scale",
]

take_plain_numbers(globals(), __all__)
