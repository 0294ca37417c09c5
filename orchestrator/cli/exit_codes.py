"""What the exit code of `elastic` says.

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | the command or the job.yaml is wrong |
| 3 | cancelled, or timed out |
| 4 | credentials |
| 5 | the job that was waited for failed |
| 130 | interrupted by Ctrl-C |
| 141 | the reader of stdout went away |

Errors bring theirs along: see `orchestrator.errors`.
"""

EXIT_FAILED = 1
EXIT_CANCELLED = 3
EXIT_TIMED_OUT = 3
EXIT_JOB_FAILED = 5
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
"""128 + SIGPIPE: what any tool reports whose reader went away, as in `elastic logs JOB | head`."""
