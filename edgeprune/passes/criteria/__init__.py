"""What may go: one criterion a file."""
