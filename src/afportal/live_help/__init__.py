"""Live help: somebody is let into a running server for a while, by JupyterHub's own shares."""
