"""The C that goes to the device."""
