"""What is said about an error: one message for a user's mistake, a hint for what nobody foresaw."""

from __future__ import annotations


class UsageError(Exception):
    """A mistake in the options: the command was not run."""


# PairError, RunError, DataError, ConfigError, TrainingError and the optional packages' ImportError among them
_FORESEEN = (ValueError, TypeError, RuntimeError, OSError, ImportError, MemoryError, UsageError)


def explain(error: BaseException) -> str:
    """An error as text for a terminal.

    >>> explain(ValueError("alpha must be a finite number, got nan"))
    'alpha must be a finite number, got nan'
    """
    # Pyro appends the shapes of a trace that has just begun: the message stands before it
    text = (
        str(error).partition("\n Trace Shapes:")[0].partition("\nTrace Shapes:")[0].strip()
        or type(error).__name__
    )
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        text = f"there is not enough memory: {text}. Take a smaller batch_size, fewer data or a smaller pair"
    if isinstance(error, _FORESEEN):
        return text
    return (
        f"{type(error).__name__}: {text}\n(--debug shows where; if the input is right, it is a bug of "
        "ppl_vae)"
    )
