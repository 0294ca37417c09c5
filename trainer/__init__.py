"""Mean Teacher in PyTorch: `python -m trainer CONFIG RUN_DIR`, alone or under torchrun.

What lives where, in the order in which data flows:

    config, config_file   what to train (pydantic, no torch)      options      how this process runs: checkpoints, disk
    data, sampling        images, labels; which a step sees       keys         random generators by (seed, step, shard)
    augment               what student and teacher each see       precision    fp32, bf16, fp16 and its loss scale
    model, pretrained     ResNet-18, 34, 50; weights to start from    network  a model over flat buffers
    mean_teacher, optim   losses, ramp-up, EMA; SGD, AdamW, LAMB  compilation  torch.compile, where it works
    world                 the ranks                               shards, exchange   sums in one fixed binary tree
    step                  one training step                       evaluate     accuracies on the test images
    divergence            a loss that is no number                memory, peak_memory   what would fit
    state, snapshot       all that a run consists of; a copy      checkpoint, checkpoint_writer   it on disk
    starting_point        from which a run goes on            durable_file   a file that is hashed as it is written
    torch_file            what torch.save wrote, as tensors alone
    standard_error        what is told to whoever looks on
    recorder, progress    what the leading rank writes            tensorboard  the same as curves
    activity, priority    signs of life before the first step; threads that give way to the training
    loop                  build, train, close

It knows a run directory and signals and nothing of clouds or buckets: it imports nothing of `orchestrator`, and the
orchestrator imports only `trainer.config`, which is free of torch.
"""
