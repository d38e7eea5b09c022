"""Boards that are not there: qemu-user with a processor's model, what Linux would say of it, and counted instructions."""
