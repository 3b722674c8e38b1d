"""An analysis facility in a box: boot it, look at it, hurt it, judge it."""

__version__ = "0.1.0"
