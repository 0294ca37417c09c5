"""Images and labels: where they come from, which keep their label, how they reach the device.

load      a data set by its name         dataset    what one is: images by index, classes, remarks
digits    comes with a package           named      CIFAR-10 and others, by torchvision
folder    the user's own: files finds    decode     an image file as pixels; reading: and its SHA-256
          them, look reads them once     image_file one that was found, and whether it is still the same
shelf     what was decoded, kept for     known      the shelves of the user's own images, by content
          later starts                   unreadable files that are no images after all
residence whether the device's memory    sources    else: where images are read from
          holds them all                 loader     worker processes that read ahead
pools     labelled and unlabelled        batches    the images of a step, shard by shard; stream: read ahead
"""
