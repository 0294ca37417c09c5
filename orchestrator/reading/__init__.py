"""What people are told of the jobs in a store, apart from how it looks: read from the bucket, where nothing changes.

- `following`: a job watched through the bucket; `listing`: the jobs of a store; `log_reading`: what workers printed.
- `standing` (with `costing`): why a job is as it is now; `controller_watch`: whether anybody looks after it.
- `costs`, `paid_instances`: what has been spent, and what costs money now.
- `text`, `phase_words`: values as words.

For the command line and the dashboard, which show the same; needs neither a controller nor an instance to be alive.
"""
