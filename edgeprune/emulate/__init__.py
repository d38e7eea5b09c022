"""Boards that are not there: qemu-user with a processor's model, what Linux would say of it, counted instructions."""
