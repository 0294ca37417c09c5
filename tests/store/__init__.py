"""The store: one contract for all of them, and what each has to itself."""
