"""Errors that are mistakes in a program, wherever it was called from: no server is to blame for them.

What turns the failures of servers and clients into errors of ours lets these through as they are:

    try:
        saver(service, ...)
    except PROGRAMMING_ERRORS:
        raise
    except Exception as error:
        raise BackupFailed(...) from error
"""

from typing import Final

PROGRAMMING_ERRORS: Final = (AssertionError, AttributeError, KeyError, NameError, NotImplementedError, TypeError)
