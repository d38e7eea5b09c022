"""What to prune where: levels, and later the budget solver."""
