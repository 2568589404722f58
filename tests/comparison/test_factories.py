from __future__ import annotations

import pyro.infer
import pytest

from ppl_vae import estimators
from ppl_vae.comparison.factories import families, objects
from ppl_vae.estimators import IWAE, MIWAE, DReG, Renyi


def test_classes_objects_and_functions_become_families():
    given = {
        "class": IWAE,
        "object": DReG(alpha=0.3, num_particles=9),
        "function": lambda K: MIWAE(2, K),
        "grouped": MIWAE(2, 3),
        "pyro": pyro.infer.RenyiELBO(alpha=0.5, num_particles=3, vectorize_particles=True),
    }
    found = {family.name: family for family in families(given)}
    assert found["class"].make(4).num_particles == 4
    assert (found["object"].make(4).alpha, found["object"].make(4).num_particles) == (0.3, 4)
    assert found["function"].make(4).group_size == 4
    assert found["grouped"].only == 6
    renyi = found["pyro"].make(7)
    assert (renyi.alpha, renyi.num_particles, renyi.vectorize_particles) == (0.5, 7, True)


def test_objects_that_differ_in_k_alone_are_one_family():
    given = [IWAE(5), IWAE(50), Renyi(0.5, 5), Renyi(0.5, 10), Renyi(0.2, 5)]
    assert [family.name for family in families(given)] == ["IWAE", "Renyi(alpha=0.5)", "Renyi(alpha=0.2)"]


def test_pyros_classes_are_made_vectorised():
    (family,) = families([pyro.infer.Trace_ELBO])
    assert family.make(3).vectorize_particles


def test_objects_are_named_by_what_makes_them_different():
    given = [
        estimators.ELBO(),
        IWAE(5),
        IWAE(50),
        DReG(5, alpha=0.5),
        Renyi(0.5, 5),
        MIWAE(2, 3),
        pyro.infer.Trace_ELBO(),
    ]
    names = [
        "ELBO(1)",
        "IWAE(5)",
        "IWAE(50)",
        "DReG(5, alpha=0.5)",
        "Renyi(alpha=0.5, num_particles=5)",
        "MIWAE(2, 3)",
        "Trace_ELBO(1)",
    ]
    assert list(objects(given)) == names


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: families([]), ValueError, "no estimators"),
        (lambda: families([MIWAE]), TypeError, "lambda K: MIWAE"),
        (lambda: families({"a": 3}), TypeError, "'a': expected an estimator"),
        (lambda: objects([IWAE(5), IWAE(5)]), ValueError, "two estimators are called 'IWAE\\(5\\)'"),
        (lambda: objects({"f": lambda K: IWAE(K)}), TypeError, "training needs an estimator"),
    ],
)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()
