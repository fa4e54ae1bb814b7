"""Neural architecture search for accuracy and hardware cost, with the energy bill, on Ray Tune."""

from nasray.architecture import Architecture

__all__ = ["Architecture", "__version__"]

__version__ = "0.1.0"
