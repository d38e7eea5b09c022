"""Which weights have to be removed together."""
