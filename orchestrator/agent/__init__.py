"""The supervisor on an instance: workers, utilisation, checkpoints, logs, heartbeat, notices.

`main` starts it. It meets the controller only in the bucket (`orchestrator.jobs.instances`) and the trainer only in a
run directory (`run_directory`). May import `orchestrator.jobs`, `orchestrator.store`, `orchestrator.spec` and, of
`orchestrator.fleets`, the process table and a machine's GPUs; torch only in `torchrun`, a process of
its own, and in the ranks that it forks (`forked_rank`).

The logic and the machine are apart, so that the simulator runs the same logic on a virtual clock, in one thread:

    logic                                             takes from the machine, by the protocols in `equipment`
    supervisor    the assignment, the heartbeat,      Equipment: clocks (`now` may jump, `monotonic` only grows, `age_s`
                  whether to stay: `Supervisor.turn`    is what is paid for), `background`, launchers, run directories,
    generation    one generation's life                 images, sampler, a free port
    restoring     images, the checkpoint to resume    Run, Workers, Images
    checkpoints   upload, commit, remove old ones     LocalCheckpoint and CheckpointFile, which upload themselves
    logs          what was printed, in chunks         LogFile
    notices       what the controller should tell

`machine` and what it makes (`launcher`, `run_directory`, `images`, `sampling`) are the real equipment; `plain_files`
opens what a program has written, and follows no link. On EC2
`interruptions` asks the metadata service (`imds`) in the background, and `Supervisor.taken_away` hears of it.

- `Supervisor.turn()` does what is due and returns after how many seconds to be called again, None when the agent has
  ended. It may be called earlier. Nothing in it waits: what is asked to end (`Workers.kill`, `Committer.abandon`,
  `LogShipper.finish`) is seen to have ended by a later turn, or given up when its time is over by `monotonic`.
- What does take time is `background.Work`: called again and again, it does one piece (a file, a chunk, a commit), and
  returns after how many seconds to go on, or None. Threads do it here, an event heap there. A piece that raises has
  crashed its task, and the generation fails.
- How often things are looked at is the `Pace` that `Supervisor` is given (by default that of the store), and
  `Equipment.look_every_s` or `glance_every_s` where the machine would have to be asked for news: workers that end, a
  new checkpoint.
"""
