"""The controller: observe -> decide -> act, for every job, again and again.

- `decide` and what it is made of are pure: `wishes`, `facts`, `recovery`, `autoscaling`, `placement`, `limits`, over
  values from `observation`; they change a `draft` of the record and yield `effects`.
- `decisions` keeps each decision with all that it saw, `replay` decides it again.
- `observe` reads, `act` carries out, `controller` goes over all jobs, `daemon` loops under the lease, `background`
  starts one.

May import `orchestrator.fleets`, `orchestrator.jobs`, `orchestrator.store` and `orchestrator.spec`. The deciding
modules read no clock, draw no random number, and import no boto3 and no torch.
"""
