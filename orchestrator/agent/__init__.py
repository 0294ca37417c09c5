"""The supervisor on an instance: workers, utilisation, checkpoints, logs, heartbeat, notices.

`main` starts it, `supervisor` is its loop. It meets the controller only in the bucket (`orchestrator.jobs.instances`)
and the trainer only in a run directory (`run_directory`). May import `orchestrator.jobs`, `orchestrator.store`,
`orchestrator.spec` and the process table of `orchestrator.fleets`; torch only in `torchrun`, which is a process of
its own.
"""
