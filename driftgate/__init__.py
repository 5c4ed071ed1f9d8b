"""The command line, and the composition of gateway, log and monitor."""

__version__ = "0.1.0"
