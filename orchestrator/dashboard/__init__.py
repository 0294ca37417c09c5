"""The web page: reads the bucket, changes nothing by itself.

- `app`: what is served under which address; `guard`: who is answered, and what a browser may do with it; `serving`: the
  socket on loopback. `static/`: the two pages, their style and their one script, which talks to nobody else.
- `pages`: what the pages show, read when somebody asks and then kept for a moment (`kept`), so that many open pages
  cost as much as one.
- `overview`, `job_page`: what is shown, with `job_row`, `charts`, `utilization`, `progress`, `log_tail`;
  `watched_job`: a job as it was read last.

What a job is, in words, is in `orchestrator.reading`, which the command line shows too.

**What an open page costs.** It asks every 2 s. Where requests are billed, an open overview makes, every 2 s, a GET for
the lease and three for each job that is not over (record, head, heartbeat; one more for each further instance), and two
listings every 30 s: 7,200 GETs and 240 LISTs an hour for one job, $0.004. A job's page makes three listings every 30 s
for its log and curves, and a GET for each new piece of them: 360 LISTs and 240 GETs, $0.002. An object that did not
change is not sent again. When no page is open, nothing is asked.
"""
