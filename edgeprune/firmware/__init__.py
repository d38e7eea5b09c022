"""Firmware for a microcontroller: a compiled model, a mailbox and the start of the chip, linked into its memory."""
