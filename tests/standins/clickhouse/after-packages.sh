# Runs in the system with its packages.
root=/opt/clickhouse
python3 -m venv /tmp/installer
/tmp/installer/bin/pip install --quiet uv
uv() { /tmp/installer/bin/uv --quiet --no-cache "$@"; }
uv venv --python /usr/bin/python3 "$root/.venv"
# The engine names these two as dependencies, for data frames; the server has no use for them, and they are large.
printf '%s ; python_version < "3"\n' pandas pyarrow > /tmp/overrides.txt
uv pip install --python "$root/.venv/bin/python" --overrides /tmp/overrides.txt --requirements /standin-build/requirements.txt
rm -rf /tmp/installer /tmp/overrides.txt /usr/share/python-wheels /usr/lib/python3.13/ensurepip

mkdir -p /docker-entrypoint-initdb.d /etc/clickhouse-server/config.d /etc/clickhouse-server/users.d
install -d -o clickhouse -g clickhouse /var/lib/clickhouse
# As in the official image, which any user may start.
chmod -R ugo+Xrw /var/lib/clickhouse /etc/clickhouse-server

find "$root/.venv" /usr/lib/python3.13 -type d \( -name __pycache__ -o -name tests \) -prune -exec rm -rf '{}' +
# Packing the system changes the files' times, and with them bytecode that checks these would be worthless.
python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash /usr/lib/python3.13 "$root/.venv/lib"
