"""Where instances come from: one small protocol, and the fleets that fulfil it.

`local`: processes on this machine. A fleet knows instances by the names that the controller gave them, and does what it
is asked once, however often it is asked. May import `orchestrator.jobs`, `orchestrator.store` and `orchestrator.spec`.
"""
