"""What a quantized model can never compute: bounds of every value, and the work that they show to be for nothing."""

from edgeprune.passes.intervals.interval import Interval
from edgeprune.passes.intervals.propagate import Bounds, propagate
from edgeprune.passes.intervals.remove import LayerRemoval, Removal, remove_dead

__all__ = ["Bounds", "Interval", "LayerRemoval", "Removal", "propagate", "remove_dead"]
