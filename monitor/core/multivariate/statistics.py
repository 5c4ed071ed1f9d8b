"""The multivariate statistics by name; documents, metrics, tests and documentation walk this."""

from collections.abc import Mapping
from types import MappingProxyType

from monitor.core.multivariate.covariance_shift import COVARIANCE_SHIFT
from monitor.core.multivariate.domain_classifier import DOMAIN_CLASSIFIER
from monitor.core.multivariate.entry import MultivariateStatistic
from monitor.core.multivariate.mean_shift import MEAN_SHIFT
from monitor.core.multivariate.mmd import MMD
from monitor.core.multivariate.reconstruction import RECONSTRUCTION

MULTIVARIATE: Mapping[str, MultivariateStatistic] = MappingProxyType(
    {
        item.name: item
        for item in (MEAN_SHIFT, COVARIANCE_SHIFT, MMD, RECONSTRUCTION, DOMAIN_CLASSIFIER)
    }
)
