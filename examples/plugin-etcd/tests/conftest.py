"""In the checkout of triton-env: what the tests of the project get, this distribution installed, and its image.

Elsewhere pip has installed it, and the engine pulls the image.
"""

from conftest import callers_choice, clean_environment, nothing_is_left, pytest_runtest_setup
from example_projects import images, installed

__all__ = [
    "callers_choice",
    "clean_environment",
    "images",
    "installed",
    "nothing_is_left",
    "pytest_runtest_setup",
]
