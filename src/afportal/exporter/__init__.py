"""What a facility's schedulers, cache and certificates say of themselves, as a Prometheus page.

Runs on a machine with the schedulers' own command-line clients, as somebody without rights:
what it shows, `condor_status`, `sdiag` and `sinfo` show to everybody. One bulk query a source and
turn, however many jobs, machines or scrapes there are.
"""
