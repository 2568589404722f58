"""The command `ppl-vae`: a pair trained, judged, compared and asked. On top of everything;
nothing imports it.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

from ppl_vae.cli.errors import UsageError, explain
from ppl_vae.cli.output import WhileRead
from ppl_vae.cli.words import in_words
from ppl_vae.terminal.interrupts import for_good, quietly

COMMANDS = {
    "train": "train a pair on data, then judge it: a run's folder with weights, metrics, pictures, summary",
    "evaluate": "judge the pair of a run's folder on data",
    "sample": "draw new data from the pair of a run's folder",
    "impute": "draw what is missing of data from the pair of a run's folder",
    "score": "how strange each datum is to the pair of a run's folder",
    "edit": "data with more of something: toward a label, or up a score, by the pair of a run's folder",
    "compress": "data as a lossless file by the pair of a run's folder, and back",
    "calibrate": "whether the guide of a run's folder is its model's posterior",
    "compare": "train a pair with several estimators and compare them, after training and at a point",
    "check": "check that a model and a guide fit together, without training them",
    "list": "what there is: models, guides, nets, likelihoods, estimators, data sets, ...",
}

HELP = """usage: ppl-vae COMMAND [options]

Train a generative model and its guide, two Pyro programs, and ask how good they are.

commands:
{commands}

examples:
  ppl-vae train --data digits
      a variational autoencoder on the bundled handwritten digits; nothing is downloaded
  ppl-vae train --data mnist --estimator IWAE --estimator.num_particles 10 --epochs 50
      the same on MNIST, with an importance-weighted bound

`ppl-vae COMMAND --help` lists the options of a command. --debug, with any command, shows the traceback
of an error. Exit codes: 0 done, 1 a mistake in the input or a failed run, 2 a mistake in the options,
130 interrupted.
"""

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one message on stderr.

    Args:
        argv: the words after `ppl-vae`; those of the process by default.

    >>> main(["list", "schedules"])  # doctest: +ELLIPSIS
    schedules
      constant...
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        read: Any = WhileRead(sys.stdout)
        with warnings.catch_warnings(), contextlib.redirect_stdout(read):
            warnings.showwarning = _show_warning
            return _dispatch(words)
    except SystemExit as done:  # jsonargparse's, after --help and --print_config
        return int(done.code or OK)
    except KeyboardInterrupt as error:
        for_good()
        if debug:
            traceback.print_exc()
        _say(f"interrupted{': ' + str(error) if str(error) else ''}")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        text = explain(error)
        _say(f"error: {in_words(text, _options(words)) if '=' in text else text}")
        return USAGE if isinstance(error, UsageError) else FAILED
    finally:
        for_good()  # the interpreter's own end has no patience with a KeyboardInterrupt


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        listed = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
        print(HELP.format(commands=listed), end="")
        return OK if words else USAGE
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"ppl_vae {version('ppl_vae')}")
        return OK
    if words[0] not in COMMANDS:
        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the commands are {', '.join(COMMANDS)}"
        raise UsageError(f"there is no command {words[0]!r}: {hint}")
    # only here, since torch and pyro take seconds to import
    with quietly():
        command = importlib.import_module(f"ppl_vae.cli.command_{words[0]}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that a file called random.py hides nothing
    result: int = command.run(words[1:])
    return result


def _options(words: list[str]) -> set[str]:
    """The options of the command that failed; none where it cannot say."""
    module = sys.modules.get(f"ppl_vae.cli.command_{words[0]}")
    make = getattr(module, "parser", None)
    return set() if make is None else {name for action in make()._actions for name in action.option_strings}


def _say(message: str) -> None:
    print(f"ppl-vae: {message}", file=sys.stderr)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say(f"warning: {message}")
