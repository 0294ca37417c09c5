"""The simulator: the real controller and the real agents on a virtual clock, in a world where everything goes wrong."""
