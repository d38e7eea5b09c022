"""Ways to run a package on a board."""
