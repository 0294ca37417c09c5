"""One module for each command or pair of commands: its options, a call of what does the work, what is said of it."""
