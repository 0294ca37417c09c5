"""The controller: observe -> decide -> act, for every job, again and again.

- `decide` and what it is made of are pure: `wishes`, `facts`, `recovery`, `autoscaling`, `rungs`, `offers`,
  `placement`, `launching`, `moving`, `budget`, `limits`, `orders`, over values from `observation`; they change a
  `draft` of the record and yield `effects`.
- `todo` lists what waits, `observe` reads what may have changed into a `watch`, `act` carries out; `decisions` keeps
  each decision with all that it saw, `replay` decides it again; `collect` removes what `garbage` (pure) chooses.
- `controller` goes over all jobs, `duty` does so while it holds the lease, `daemon` calls that in real time,
  `background` starts one.

May import `orchestrator.fleets`, `orchestrator.jobs`, `orchestrator.store` and `orchestrator.spec`. The deciding
modules read no clock, draw no random number, and import no boto3 and no torch.
"""
