"""A stand-in for an experiment's own software: enough to see that it is there."""

RELEASE = "2026.1"
STAND_IN = True
