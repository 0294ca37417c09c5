"""elastic: training jobs on interruptible GPUs that resize themselves and survive every interruption.

- `cli`: the `elastic` command.
- `controller`: observe, decide, act: the loop that sizes and mends jobs.
- `agent`: the supervisor on an instance.
- `fleets`: where instances come from.
- `jobs`: records, phases, events, and how they lie in the bucket.
- `store`: the bucket: object storage with conditional writes, and the lease.
- `spec`: job.yaml.
- `errors`: what reaches a person.

Imports point down this list. Of `trainer` only `trainer.config` may be imported, and it imports nothing from here.
"""
