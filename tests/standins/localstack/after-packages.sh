# Runs in the system with its packages. Python 3.13, as in the official image.
# A newer cbor2 or pyOpenSSL than of the release's own day breaks it, hence the date.
root=/opt/code/localstack
python3 -m venv /tmp/installer
/tmp/installer/bin/pip install --quiet uv
uv() { /tmp/installer/bin/uv --quiet --no-cache "$@"; }
uv venv --python /usr/bin/python3 "$root/.venv"
uv pip install --python "$root/.venv/bin/python" --exclude-newer 2026-03-15 \
    'localstack-core[base-runtime]==4.14.0' 'moto-ext[s3]' jsonpath-ng
rm -rf /tmp/installer

mkdir -p /tmp/localstack /usr/lib/localstack /var/lib/localstack
mkdir -p /etc/localstack/init
chmod -R 777 /tmp/localstack /usr/lib/localstack /var/lib/localstack
touch /tmp/localstack/.marker /usr/lib/localstack/.community-version
# The official image carries the index of services ready-made too; without it the first start takes seconds more.
( cd "$root" && LOCALSTACK_VOLUME_DIR=/var/lib/localstack .venv/bin/python -m localstack.aws.spec )

rm -rf /usr/share/python-wheels /usr/lib/python3.13/ensurepip /root/.cache
find "$root/.venv" -type d -name tests -prune -exec rm -rf '{}' +
find "$root/.venv" /usr/lib/python3.13 -type d -name __pycache__ -prune -exec rm -rf '{}' +
# Packing the system changes the files' times, and with them bytecode that checks these would be worthless.
python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash /usr/lib/python3.13 "$root/.venv/lib" > /tmp/compile.log || :
rm -f /tmp/compile.log
