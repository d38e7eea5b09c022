"""The .edge file: format, build, size."""
