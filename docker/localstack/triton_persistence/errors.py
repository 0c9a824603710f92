"""Why the provider does not start."""


class Refused(Exception):
    """The data or this LocalStack cannot be used. The message is for people; the data was not touched."""
