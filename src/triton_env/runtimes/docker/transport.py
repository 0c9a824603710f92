"""The one way to the Docker engine: every request of the SDK ends in an answer, or in an error of ours.

Of the SDK's own exceptions only those come through that say something of what was asked for: that it is not there
(404), exists already (409), or was asked for wrongly (400).
"""

from collections.abc import Callable, Iterator
from typing import Any

import docker
import requests
from docker.errors import APIError

from triton_env.errors import TritonError
from triton_env.runtimes.docker import engine_errors
from triton_env.runtimes.docker.engine_errors import asked, failure, failures, foreign
from triton_env.runtimes.docker.engine_socket import Unanswered

FOREIGN = foreign()
"""What the SDK and the libraries below it raise. It is loaded by now."""
_STREAM_FAILURES = foreign(ValueError)
FAILURES = failures()
"""What a request to the engine may end with."""


class Api(docker.APIClient):
    """The SDK's client of the engine's API, with our errors.

    Attributes:
        address: of the engine, for errors.
        trouble: says why it is not reached, where that is known; else nothing.
    """

    trouble: Callable[[], str]

    address = ""
    _is_silent = False
    """Whether the last answer did not come in time."""

    @classmethod
    def take_over(cls, client: docker.DockerClient, address: str, trouble: Callable[[], str]) -> None:
        """Have a client that others made raise our errors."""
        client.api.__class__ = cls
        client.api.trouble = trouble  # type: ignore[attr-defined]
        client.api.address = address  # type: ignore[attr-defined] # of the class that it has now

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if self._is_silent and options.get("timeout") is not None:
            options["timeout"] = min(options["timeout"], engine_errors.SILENT_TIMEOUT)
        try:
            response = super().send(request, **options)
        except FOREIGN as error:
            self._is_silent = isinstance(error, requests.Timeout)
            raise self._failure(error, request) from error
        self._is_silent = False
        return response

    def _get(self, url: str, **options: Any) -> requests.Response:
        if options.get("timeout") is None:
            options["timeout"] = min(self.timeout, engine_errors.QUESTION_TIMEOUT)
        response: requests.Response = super()._get(url, **options)  # type: ignore[misc] # the stubs have what is public
        return response

    def _raise_for_status(self, response: requests.Response) -> None:
        try:
            super()._raise_for_status(response)  # type: ignore[misc]
        except APIError as error:
            if not error.is_server_error():
                raise
            raise self._failure(error, response.request) from error

    def _result(self, response: requests.Response, json: bool = False, binary: bool = False) -> Any:
        try:
            return super()._result(response, json, binary)  # type: ignore[misc]
        except APIError:  # judged by its status above
            raise
        except (requests.RequestException, ValueError) as error:  # half an answer, or one of another server
            raise self._failure(error, response.request) from error

    def _stream_helper(self, response: requests.Response, decode: bool = False) -> Iterator[Any]:
        stream = super()._stream_helper  # type: ignore[misc]
        yield from self._told(response, stream, response, decode)

    def _stream_raw_result(
        self, response: requests.Response, chunk_size: int = 1, decode: bool = True
    ) -> Iterator[Any]:
        stream = super()._stream_raw_result  # type: ignore[misc]
        yield from self._told(response, stream, response, chunk_size, decode)

    def _told(
        self, response: requests.Response, stream: Callable[..., Iterator[Any]], *arguments: Any
    ) -> Iterator[Any]:
        try:
            yield from stream(*arguments)
        except APIError:
            raise
        except _STREAM_FAILURES as error:
            raise self._failure(error, response.request) from error

    def _failure(self, error: BaseException, request: requests.PreparedRequest) -> TritonError:
        doing, where = asked()
        if not isinstance(error, APIError) and (words := self.trouble()):
            error = Unanswered(words)
        path = request.path_url.partition("?")[0]
        return failure(error, doing or f"answer {request.method} {path}", where or self.address)
