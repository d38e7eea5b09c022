"""The stretches of the road between the stages: what flow calls, one a file."""
