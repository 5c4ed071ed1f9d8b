"""Performance estimated without labels: from the scores of rows whose labels are not there yet.

How often a score is right is read off the labels that came before (the calibration); what
the measures of the newest rows are to be expected follows. It is an estimate under stated
assumptions, and is withheld where they are seen to fail: see `Reason`.

Source: the confidence-based performance estimation (CBPE) of NannyML; the intervals are ours.
"""

from monitor.core.estimation.estimate import Estimated, estimated
from monitor.core.estimation.estimation import Estimation
from monitor.core.estimation.measures import ESTIMATED
from monitor.core.estimation.reason import Reason

__all__ = ["ESTIMATED", "Estimated", "Estimation", "Reason", "estimated"]
