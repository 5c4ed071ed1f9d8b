"""The monitor over files: what it would have said, for a person with data and no gateway."""

from monitor.backtest.columns import BacktestError, Columns
from monitor.backtest.run import Backtest, Result, backtest

__all__ = ["Backtest", "BacktestError", "Columns", "Result", "backtest"]
