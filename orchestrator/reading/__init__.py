"""What people are told of the jobs in a store, apart from how it looks: read from the bucket, where nothing changes.

- `following`: a job watched through the bucket; `listing`: the jobs of a store; `log_reading`: what workers printed.
- `standing` (with `costing`): why a job is as it is now; `controller_watch`: whether anybody looks after it.
- `costs`, `paid_instances`: what has been spent, and what costs money now.
- `job_facts`, `next_steps`: what there is to say of a job, and what to type next.
- `progress_reports`: what a trainer has reported.
- `text`, `phase_words`, `as_yaml`: values as words; `meanings`: how an event is to be taken.

For the command line and the dashboard, which show the same; needs neither a controller nor an instance to be alive.
"""
