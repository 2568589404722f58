"""Facts: a false one in any field is found, by check_estimator or when it is written down."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from ppl_vae import estimators
from ppl_vae.estimators import Facts
from ppl_vae.testing import check_estimator
from ppl_vae.testing.estimators import EstimatorError

pytestmark = pytest.mark.usefixtures("double")


class WithoutScore(estimators.IWAE):
    """Leaves out what a discrete draw needs."""

    def surrogate(self, particles):
        return self.bound(particles)


class HalfTheModel(estimators.IWAE):
    """Follows half of the model's gradient at a discrete site's parameters."""

    def surrogate(self, particles):
        return 0.5 * super().surrogate(particles)


def claiming(estimator, **claims):
    estimator.facts = replace(estimator.facts, **claims)
    return estimator


# by field of Facts, an estimator of which it is false
FALSE = {
    "bound": [
        (claiming(estimators.CUBO(2.0, 50), bound="lower"), "claims to be a lower bound"),
        (claiming(estimators.ELBO(), bound="upper"), "claims to be a upper bound"),
    ],
    "unbiased_model": [
        (claiming(estimators.CUBO(2.0, 3), unbiased_model=True), "unbiased gradient of the model"),
        (HalfTheModel(2), "unbiased gradient of the model"),
    ],
    "unbiased_guide": [
        (
            claiming(estimators.STL(3), unbiased_guide=True, guide_follows="the bound"),
            "gradient of the guide",
        ),
        (WithoutScore(2), "unbiased gradient of the guide"),
        (WithoutScore(8), "unbiased gradient of the guide"),
    ],
    "needs": [
        (claiming(estimators.STL(), needs="any"), "draws are not treated"),
        (claiming(estimators.STL(3), needs="any"), "draws are not treated"),
    ],
    "zero_variance": [(claiming(estimators.ELBO(), zero_variance=True), "claimed to be zero")],
}


@pytest.mark.parametrize(("estimator", "told"), [row for rows in FALSE.values() for row in rows])
def test_a_false_fact_is_found(estimator, told):
    with pytest.raises(EstimatorError, match=told):
        check_estimator(estimator, repeats=40)


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"bound": "below"}, "bound must be one of"),
        ({"paper": "1399.12345"}, "paper must be an arXiv number"),
        ({"paper": "١٣١٢.٦١١٤"}, "paper must be an arXiv number"),
        ({"guide_follows": 3, "unbiased_guide": False}, "guide_follows must be a text"),
        ({"guide_follows": "", "unbiased_guide": False}, "guide_follows must be a text"),
        ({"needs": "discrete"}, "needs must be one of"),
        ({"unbiased_model": "yes"}, "unbiased_model must be True or False"),
        ({"unbiased_guide": 1}, "unbiased_guide must be True or False"),
        ({"zero_variance": None}, "zero_variance must be True or False"),
        ({"paper": "Kingma 2014"}, "paper must be an arXiv number"),
        ({"paper": "1312.61145678"}, "paper must be an arXiv number"),
        ({"guide_follows": "wake-phi"}, "not unbiased for the bound"),
    ],
)
def test_what_cannot_be_a_fact_is_refused(claims, told):
    with pytest.raises(ValueError, match=told):
        Facts(**{"bound": "lower", **claims})


def test_there_is_no_field_that_nothing_looks_at():
    assert {field.name for field in fields(Facts)} == {*FALSE, "guide_follows", "paper"}
    with pytest.raises(TypeError):  # a limit was never checked, so it is gone: no positions to mistake it in
        Facts("lower", "evidence")


@pytest.mark.parametrize("facts", [None, {"bound": "lower"}, "lower", Facts])
def test_facts_that_are_none_are_refused_where_they_are_written(facts):
    with pytest.raises(TypeError, match=r"Own\.facts must be estimators\.Facts\(\.\.\.\)"):
        type("Own", (estimators.ELBO,), {"facts": facts})


def test_facts_may_be_computed():
    class Own(estimators.ELBO):
        facts = property(lambda self: Facts("lower", paper="1312.6114"))

    assert Own(2).facts.paper == "1312.6114"
