"""What `doctor` looks at that concerns one service: the part `checks` of a service."""

from collections.abc import Iterable

from triton_env.core.findings import Finding
from triton_env.settings import Settings


class Checks:
    """What there is to be known of a service before it is started. Here: nothing."""

    def of_image(self, image: str) -> Iterable[Finding]:
        """What people should know before they rely on an image, which is also said where it was started.

        Args:
            image: as the settings name it.
        """
        return ()

    def of_settings(self, settings: Settings) -> Iterable[Finding]:
        """Whether its containers can work with these settings."""
        return ()
