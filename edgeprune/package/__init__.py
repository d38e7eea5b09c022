"""The .edge package: what it says of itself, how it is written, and how it is read and verified."""
