"""A JupyterHub portal for batch facilities."""

__version__ = "0.1.0"
