#!/bin/sh
# Options of its own before those of the command; the server runs as the user seaweed, who owns the data folder.
export GODEBUG="${GODEBUG:+$GODEBUG,}fips140=on"
if [ "$(id -u)" = 0 ]; then
    if [ "$(stat -c %U:%G /data)" != seaweed:seaweed ]; then
        chown -R seaweed:seaweed /data
    fi
    exec gosu seaweed "$0" "$@"
fi
case "$1" in
    mini)
        shift
        exec /usr/bin/weed -logtostderr=true mini -dir=/data "$@"
        ;;
    *) exec /usr/bin/weed "$@" ;;
esac
