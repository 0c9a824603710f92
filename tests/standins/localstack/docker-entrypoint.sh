#!/bin/bash
# What the official image does at its start: settings may carry the prefix LOCALSTACK_, boot hooks run first, then the supervisor.
set -eo pipefail

if [[ -n ${STANDIN_REQUIRES_TOKEN:-} && -z ${LOCALSTACK_AUTH_TOKEN:-} ]]; then
    echo 'License activation failed! No credentials were found: set the environment variable LOCALSTACK_AUTH_TOKEN.' >&2
    echo 'Localstack returning with exit code 55.' >&2
    exit 55
fi

# LOCALSTACK_HOST and LOCALSTACK_HOSTNAME are names of their own, and the likes of LOCALSTACK_1_PORT come from container links.
while IFS='=' read -r -d '' name value; do
    case "$name" in
        LOCALSTACK_HOST | LOCALSTACK_HOSTNAME | LOCALSTACK_[0-9]*) ;;
        LOCALSTACK_?*) export "${name#LOCALSTACK_}=$value" ;;
    esac
done < <(env -0)

mkdir -p /var/lib/localstack/logs

if [[ -d /etc/localstack/init/boot.d ]]; then
    python -m localstack.runtime.init BOOT
fi
exec localstack-supervisor
