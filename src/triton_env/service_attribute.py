"""A service as an attribute of its environment."""

from typing import TYPE_CHECKING, Generic, Self, TypeVar, cast, overload

from triton_env.services import Service

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment

_ServiceT = TypeVar("_ServiceT", bound=Service)


class ServiceAttribute(Generic[_ServiceT]):
    """`env.NAME`: the running service, waited for where it is still starting."""

    def __init__(self, service: type[_ServiceT]) -> None:
        self._service = service
        self.__doc__ = f"{service.title}; waits for it where it is still starting."

    @overload
    def __get__(self, environment: None, owner: type) -> Self: ...
    @overload
    def __get__(self, environment: "TritonEnvironment", owner: type) -> _ServiceT: ...
    def __get__(self, environment: "TritonEnvironment | None", owner: type) -> Self | _ServiceT:
        if environment is None:
            return self
        return cast(_ServiceT, environment.service(self._service.name))
