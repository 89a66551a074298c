"""The one runner, what it gives, and the figures over it."""

from plaudit.judging.intervals import ClusteredMean, Interval, wilson
from plaudit.judging.metrics import Summary
from plaudit.judging.results import PairResult, ResponseResult, RowResult
from plaudit.judging.runner import Progress, Runner

__all__ = ["ClusteredMean", "Interval", "PairResult", "Progress", "ResponseResult", "RowResult", "Runner", "Summary", "wilson"]
