"""The trainer of a few lines as a package, whose ranks are forked from their launcher."""
