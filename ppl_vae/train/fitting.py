"""fit: a training in three parts, which are prepare, loop and finish."""

from __future__ import annotations

from pyro.infer import ELBO as PyroELBO

from ppl_vae.core.isolation import one_thread, python_random_numbers_kept
from ppl_vae.core.pair import Pair
from ppl_vae.train.finish import Run, failed, interrupted, run_of
from ppl_vae.train.keywords import with_keywords
from ppl_vae.train.loop import Loop
from ppl_vae.train.not_finite import NotFinite
from ppl_vae.train.options import Data, FitOptions
from ppl_vae.train.prepare import prepare


@with_keywords(FitOptions)
@one_thread
@python_random_numbers_kept
def fit(pair: Pair, estimator: PyroELBO, data: Data, options: FitOptions) -> Run:
    """Train a pair, in place, by stochastic gradient ascent on a bound.

    The random numbers of a training come from `seed` alone; the caller's are left as they were. That holds
    for torch's, and for those of Python and NumPy from which a program of one's own may draw.

    One thread at a time: a `fit`, an evaluation or a question in another thread waits until this one has
    ended, and both come to what they would have come to one after the other (`pv.ONE_THREAD` is the lock, for
    what a thread does with Pyro or torch's random numbers by itself, such as building a pair). Trainings side
    by side are processes, as in `compare(..., n_jobs=2)`.

    Args:
        pair: the pair; it is moved to `device`.
        estimator: one of `ppl_vae.estimators`, or Pyro's own `Trace_ELBO()`, `RenyiELBO(...)` etc.
        data: a `DataSet` (its train part is trained on, its valid part validated on), or a `Split`, a
            tensor, a dictionary of arrays or whatever else `data.as_split` takes, to train on without
            validation. The programs are given the arrays that their arguments name.
        options: see `FitOptions`.

    Raises:
        PairError: for a pair that breaks the contract.
        CaptureError: with `capture=True`, for a step that cannot be captured.
        ValueError: for an option out of range, one that would do nothing beside the others (`patience`
            without validation data, `weight_decay` for an optimizer that takes none), or a treatment of
            the KL term that the estimator has no place for.
        RunError: for a folder that holds another run, that another process writes to, that cannot be written,
            or whose checkpoint is damaged or of other settings, another pair or other data.
        TrainingError: when the loss stops being finite; names the step and the site.
    """
    prepared = prepare(pair, estimator, data, options)
    with prepared.alone():
        loop = Loop(prepared)
        try:
            loop.run()
        except NotFinite as error:
            raise failed(loop, error) from error
        except KeyboardInterrupt:
            interrupted(loop)
        finally:
            loop.close()
        prepared.training.finish()
    return run_of(prepared)
