"""Mean Teacher in PyTorch: `python -m trainer CONFIG RUN_DIR`, alone or under torchrun.

What lives where, in the order in which data flows:

    config         what to train (pydantic, no torch)        options       how this process runs: checkpoints, disk, parent
    data           images, labels, who is labelled           sampling      which images a step sees
    keys           random generators by (seed, step, shard)  augment       what student and teacher each see of them
    model          ResNet-18                                 network       a model over flat buffers
    mean_teacher   losses, ramp-up, EMA decay                optim         learning rate, SGD
    world          ranks and what they exchange              shards        sums in a fixed binary tree
    step           one training step                         evaluate      accuracies on the test images
    state          all that a run consists of                checkpoint    the same on disk
    progress       progress.jsonl                            loop          build, train, close

It knows a run directory and signals and nothing of clouds or buckets: it imports nothing of `orchestrator`, and the
orchestrator imports only `trainer.config`, which is free of torch.
"""
