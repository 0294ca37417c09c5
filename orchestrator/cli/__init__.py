"""The `elastic` command: parse, call, render.

- `main`: the console script; exceptions become one message and an exit code. `app`: the commands by name.
- `commands/`: a module for each command or small group of them.
- `invocation`: what a command is given from outside (environment, clock, randomness), made in one place.
- `output`: data on stdout as table, JSON, YAML or names; `prose`: everything else, on stderr.
- `following_job`: a job watched to its end; `live_view` and `plain_view` show it, `summary` is its end.
- `story`: why a job is as it is, decision by decision; `story_view` shows it.
- `fetching` (with `pinning` and `part_directory`), `asking`, `checks`: what the commands of those names do, apart from
  how it looks. What the dashboard shows too is in `orchestrator.reading`.

The top layer: may import everything below, and nothing imports it. Imports that cost time (torch, boto3, Rich,
pydantic models) are made inside the commands that need them, because `elastic --help` and completion must be quick.
"""
