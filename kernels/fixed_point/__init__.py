"""int8 layers in integers alone: sums in int32, rescaled by fixed-point multipliers as TFLite defines it."""
