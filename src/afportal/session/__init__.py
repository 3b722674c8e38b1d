"""What runs inside the job: exchanges the one-time code, starts JupyterLab, says hello."""
