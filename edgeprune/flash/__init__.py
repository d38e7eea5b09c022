"""Puts firmware on microcontrollers: one flasher a file, one interface for all."""
