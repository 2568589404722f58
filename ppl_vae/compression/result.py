"""The result of a compression: its rate beside the bound and beside what the classical coders need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ppl_vae.evaluate.lines import plus_minus, rows


@dataclass(frozen=True, eq=False)
class Compressed:
    """Data as a file, and the rate in bits per element: a pixel, a column, a step.

    Attributes:
        path: the file; None where none was written.
        num_data: N.
        num_elements: of one datum.
        rate: bits per element that the data added, with what stands beside the code.
        negative_elbo: what the rate of one sample is on average, estimated by itself.
        standard_error: of `negative_elbo`, from its spread over the data.
        num_samples: K.
        order: "bits back" or "Bit-Swap".
        file_size: bytes of the whole file, which has the random bits it began with and a header too.
        initial_bits: random bits that the first pops drew from.
        side_size: bytes of what no site observes, labels that the model is given for instance.
        coders: bytes by classical coder.
        seconds: for encoding.
        verified: whether the file was decoded again and every bit compared.
        content: the file.
    """

    path: Path | None
    num_data: int
    num_elements: int
    rate: float
    negative_elbo: float
    standard_error: float
    num_samples: int
    order: str
    file_size: int
    initial_bits: int
    side_size: int
    coders: Mapping[str, int]
    seconds: float
    verified: bool
    content: bytes = field(repr=False)

    @property
    def coder_rates(self) -> dict[str, float]:
        """Bits per element by classical coder."""
        return {name: 8 * size / (self.num_data * self.num_elements) for name, size in self.coders.items()}

    @property
    def file_rate(self) -> float:
        """Bits per element of the whole file."""
        return 8 * self.file_size / (self.num_data * self.num_elements)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        samples = f"K = {self.num_samples}, " if self.num_samples > 1 else ""
        checked = "every bit compared" if self.verified else "not verified"
        begun = f"with a header and {self.initial_bits:,} bits to begin with"
        return [
            ("rate", f"{self.rate:.4f}", f"{samples}{self.order}, {checked}"),
            ("-ELBO", plus_minus(self.negative_elbo, self.standard_error), "one sample's rate on average"),
            ("file", f"{self.file_rate:.4f}", f"{self.file_size:,} bytes, {begun}"),
            *(
                (name, f"{rate:.4f}", f"{self.coders[name]:,} bytes")
                for name, rate in self.coder_rates.items()
            ),
        ]

    def __str__(self) -> str:
        title = f"{self.num_data:,} data of {self.num_elements:,} elements, bits per element"
        return rows(title, self.lines())
