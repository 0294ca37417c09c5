"""What is claimed about speed and accuracy, and how it was measured.

`speed` prints the figures of speed: it runs the real commands in a `place` of its own and takes the times from what
they leave behind. `accuracy` prints the accuracies, `record_demo` draws the pictures of the README. Nothing of
`orchestrator` or `trainer` imports from here.
"""
