"""Images and labels: where they come from, which keep their label, how they reach the device.

dataset   what a data set is          digits    the one that comes with a package
pools     labelled and unlabelled     batches   the images of a step, shard by shard
"""
