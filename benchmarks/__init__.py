"""What is claimed about speed and accuracy, and how it was measured.

`speed` prints how quick the whole is: it runs the real commands in a `place` of its own and takes the times from what
they leave behind. `trainer_speed` prints how quick the trainer is by itself, against the plain loop in `article` too.
`augmentation` does so for the views of images, `accuracy` prints accuracies, `record_demo` draws the pictures of the
README. Nothing of `orchestrator` or `trainer` imports from here.
"""
