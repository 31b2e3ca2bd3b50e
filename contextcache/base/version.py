"""The version of the distribution, from which the build takes it, too."""

__version__ = "0.1.0"
