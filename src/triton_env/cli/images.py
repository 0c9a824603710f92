"""What is known of the images that the settings name."""

from collections.abc import Iterable, Mapping

from triton_env.cli.output import say_notice
from triton_env.services import SERVICES
from triton_env.services.base_checks import Checks
from triton_env.services.selection import with_groups
from triton_env.settings import Settings


def images_of(service: str, settings: Settings) -> Mapping[str, str]:
    """The images that a service runs with these settings, by the variables that name them."""
    container = SERVICES[service].recipe(with_groups(settings, (service,))).container
    return {container.image_variable: container.image}


def checks_of(service: str) -> Checks:
    """What is to be looked at of a service."""
    checks: Checks | None = SERVICES[service].parts.load("checks")
    return checks or Checks()


def say_notices(services: Iterable[str], settings: Settings) -> None:
    """Print what people should know about the images of these services, such as one that no longer gets fixes."""
    for service in services:
        for image in images_of(service, settings).values():
            for finding in checks_of(service).of_image(image):
                say_notice(f"{finding.words}; {finding.hint}.")
