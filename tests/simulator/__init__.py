"""Whole unattended sessions on a virtual clock, with seeded faults in the API, the log, the tools, the process and the clocks.

`python -m tests.simulator --seed 17` plays one of them and shows what happens; `--seeds 20000` plays many. `--schedule 17` and
`--schedules 20000` do the same with workspaces whose schedules start sessions.
"""
