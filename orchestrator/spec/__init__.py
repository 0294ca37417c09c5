"""job.yaml: what a person writes, as checked values.

- `models`: the fields, with units, bounds and defaults; `units`: durations and sizes; `names`: names of jobs.
- `load`: a file and `--set` overrides to a `JobSpec`, or every mistake in them with its line. `document` reads the
  YAML, `overrides` the `--set` arguments, `explain` puts pydantic's errors into sentences (those of
  `trainer.config`), `problems` prints them.
- `schema`, `template`, `reference`: the same fields as JSON Schema, as a commented job.yaml and as Markdown; `fields`
  lists them for the latter two.

Pure: imports nothing of `orchestrator` but its errors, and of `trainer` only the configuration model; no torch, no
boto3. Nothing is imported here, so that a command that needs no job.yaml does not pay for it.
"""
