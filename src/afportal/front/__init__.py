"""The facility's first page, and which instance of a hub a person comes to."""
