"""Share links: a person sends a colleague a copy of a notebook, and what it ran in.

Each is a snapshot that the owner's own session made and sent, kept by all hubs of the facility
together. The one who opens it gets a copy by their own session. Nobody reads anybody's home.
"""
