"""The pytest plugin of the distribution: the fixture `triton_etcd`. It loads no etcd before a test asks for one."""

from triton_env.pytest_plugin import service_fixture
from triton_env.services.base_fixtures import Fixtures

triton_etcd = service_fixture("etcd", Fixtures(words="etcd with keys for this test alone.", kind="Etcd"))
