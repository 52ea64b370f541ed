"""Schedules: when an agent runs by itself, and what came of each time at which it should have.

spec        what a person writes            due        what is to happen now: pure, from schedule, history and time
calendar    cron and zone → due times       store      what was decided, durably: one row for each due time
sources     from files and the database     scheduler  decides, claims, runs: once (`tick`) or for ever (`serve`)
"""
