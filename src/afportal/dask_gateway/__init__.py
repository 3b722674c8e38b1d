"""Dask Gateway at a facility: clusters on HTCondor, Slurm or the gateway's node, as their owner.

Needs `afportal[gateway]`, where the gateway runs; `client` alone is for notebooks.
"""
