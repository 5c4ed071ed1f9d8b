"""The report on a model: one page of HTML that stands alone, for people."""

from monitor.report.content import Content
from monitor.report.page import render
from monitor.report.timeline import Timeline
from monitor.report.words import ELAPSED, UTC, Clock

__all__ = ["ELAPSED", "UTC", "Clock", "Content", "Timeline", "render"]
