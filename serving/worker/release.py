"""The release that this code was installed from."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("driftgate")
except PackageNotFoundError:  # run from a source tree that is not installed
    VERSION = "0.0.0+source"
