"""How this machine talks to microcontrollers: debug probes, serial ports, programs of others."""
