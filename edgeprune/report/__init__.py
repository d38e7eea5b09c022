"""What is known of a model or package as one page."""
