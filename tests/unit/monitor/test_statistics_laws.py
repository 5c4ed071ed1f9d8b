"""The limit laws against scipy's."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

from monitor.core.statistics.laws import (
    chi_square_sf,
    kolmogorov_sf,
    mean_of_chi,
    normal_sf,
    quadratic_form_sf,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 11, 65, 260])
def test_chi_square_equals_scipy(freedom: int) -> None:
    x = np.concatenate([np.linspace(0.001, 4 * freedom, 400), [1e3, 1e5]])
    found = chi_square_sf(x, np.full(x.shape, freedom))
    np.testing.assert_allclose(found, scipy.stats.chi2.sf(x, freedom), rtol=1e-11, atol=1e-300)


def test_no_freedom_is_the_law_of_zero() -> None:
    assert chi_square_sf(np.array([0.0, 1.0, np.nan]), np.zeros(3)).tolist()[:2] == [1.0, 0.0]
    assert chi_square_sf(np.array([np.inf]), np.ones(1)).tolist() == [0.0]
    assert float(mean_of_chi(np.zeros(1))[0]) == 0.0
    assert quadratic_form_sf(1.0, np.zeros(3)) == 1.0


def test_kolmogorov_equals_scipy() -> None:
    x = np.linspace(0.0, 8.0, 1000)
    np.testing.assert_allclose(kolmogorov_sf(x), scipy.special.kolmogorov(x), atol=1e-14)
    assert np.isnan(kolmogorov_sf(np.array([np.nan]))).all()


def test_means_equal_scipy() -> None:
    freedom = np.arange(1.0, 300.0)
    np.testing.assert_allclose(mean_of_chi(freedom), scipy.stats.chi.mean(freedom), rtol=1e-10)


def test_normal_equals_scipy() -> None:
    z = np.linspace(-9, 9, 200)
    np.testing.assert_allclose(normal_sf(z), scipy.stats.norm.sf(z), rtol=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 5, 20])
def test_a_quadratic_form_of_equal_weights_is_a_chi_square(freedom: int) -> None:
    """One squared normal is the worst case of the approximation."""
    for x in np.geomspace(0.05, 15, 40) * freedom:
        found = quadratic_form_sf(3.0 * float(x), np.full(freedom, 3.0))
        assert found == pytest.approx(scipy.stats.chi2.sf(x, freedom), rel=0.08)


@pytest.mark.parametrize(
    ("critical", "p"), [(0.11888, 0.5), (0.34730, 0.1), (0.46136, 0.05), (0.74346, 0.01)]
)
def test_the_law_of_cramer_von_mises_is_found(critical: float, p: float) -> None:
    """Anderson and Darling 1952, table 1, from its eigenvalues."""
    weights = 1 / (np.pi * np.arange(1, 2000)) ** 2
    assert quadratic_form_sf(critical, weights) == pytest.approx(p, rel=0.06)


@pytest.mark.parametrize(("critical", "p"), [(1.933, 0.1), (2.492, 0.05), (3.857, 0.01)])
def test_the_law_of_anderson_darling_is_found(critical: float, p: float) -> None:
    """Anderson and Darling 1954, from its eigenvalues."""
    j = np.arange(1, 5000)
    assert quadratic_form_sf(critical, 1 / (j * (j + 1.0))) == pytest.approx(p, rel=0.08)
