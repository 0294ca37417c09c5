"""What a job is: records, phases, the transition table, events, and the bucket's layout.

Values and their keys only. May import `orchestrator.store` (to load and store the values) and `orchestrator.spec`;
reads no clock and draws no random number.
"""
