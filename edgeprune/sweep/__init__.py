"""Many models, targets and budgets, on one machine or many."""
