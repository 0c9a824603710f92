# Sourced by cluster.sh: the processes of a cluster, and its removal. Not to be run by itself.
# shellcheck shell=bash

# started PID: prints what distinguishes the process from a later one with the same number.
started() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # The name, in parentheses, may hold anything. After it: the state, and as the 20th the time of the start.
    read -ra stat <<<"${stat##*) }"
    [[ ${stat[0]} != Z ]] || return 1
    echo "${stat[19]} $(</proc/sys/kernel/random/boot_id)"
}

# lives NAME: whether the process that was started under this name still runs; it is then $pid.
lives() {
    local known
    [[ -f $run/pids/$1 ]] || return 1
    read -r pid known <"$run/pids/$1" && [[ -n $known && $(started "$pid") == "$known" ]]
}

# start NAME COMMAND...: in a session of its own, which Ctrl-C does not reach. The working directory is run/, where etcd
# has its sockets.
start() {
    local name=$1
    shift
    (
        # Volumes, and files such as a container's /etc/hosts, are for all its users. run/ itself is for root.
        if [[ $name == kube-controller-manager ]]; then umask 0; else umask 022; fi
        cd "$run"
        # The kubelet looks for socat.
        export PATH=$programs/bin:$PATH
        exec setsid "$programs/bin/$name" "$@" </dev/null >"logs/$name.log" 2>&1 {lock}>&-
    ) &
    echo "$! $(started $!)" >"$run/pids/$name"
}

# stop NAME...: all at once, and their child processes with them.
stop() {
    local name pid tries
    for name in "$@"; do
        if lives "$name"; then kill -TERM -- "-$pid" 2>/dev/null || true; fi
    done
    for name in "$@"; do
        for ((tries = 0; tries < 100; tries++)); do
            lives "$name" || continue 2
            sleep 0.1
        done
        if lives "$name"; then kill -KILL -- "-$pid" 2>/dev/null || true; fi
    done
}

# wait_for WORDS NAME COMMAND...: until the command succeeds, for two minutes at most, while the component NAME runs.
wait_for() {
    local words=$1 name=$2 began=$SECONDS said=$SECONDS pid
    shift 2
    # In a subshell: the trap of Ctrl-C would print to where a function's output goes.
    until ("$@") >/dev/null 2>&1; do
        if ! lives "$name" || ((SECONDS - began > 120)); then
            say "$words: $name does not work. The last lines of its log:"
            tail -n 20 "$run/logs/$name.log" >&2
            return 1
        fi
        if ((SECONDS - said >= 5)); then
            said=$SECONDS
            say "$words ... $((SECONDS - began)) s"
        fi
        sleep 0.2
    done
}

# Whether every component of the cluster in run/ works.
cluster_works() {
    local name pid
    for name in "${components[@]}"; do
        lives "$name" || return 1
    done
    kubectl get --raw /readyz --request-timeout 10s >/dev/null 2>&1
}

# Containers of this cluster's pods. The node keeps a file for each sandbox, and each container has a label with the id
# of its sandbox.
containers_of_cluster() {
    local known id uid sandbox
    known=,$(find "$run/dockershim/sandbox" "$run/kubelet/pods" -mindepth 1 -maxdepth 1 -printf %f, 2>/dev/null || true)
    docker ps --all --no-trunc --filter "label=$container_label" \
        --format '{{.ID}},{{.Label "io.kubernetes.pod.uid"}},{{.Label "io.kubernetes.sandbox.id"}}' |
        while IFS=, read -r id uid sandbox; do
            if [[ $known == *,"$id",* || $known == *,"${uid:-none}",* || $known == *,"${sandbox:-none}",* ]]; then
                echo "$id"
            fi
        done
}

# remove_cluster: all that is left of it. The kubelet goes first, since it replaces containers.
remove_cluster() {
    local containers mounts mount number tries
    [[ -e $run ]] || return 0
    stop kubelet
    # Only the files in run/ say which containers are the cluster's, so they stay until the containers are removed.
    docker version >/dev/null || fail "Cannot remove the cluster's containers: the Docker engine does not answer."
    for ((tries = 0; tries < 5; tries++)); do
        mapfile -t containers < <(containers_of_cluster)
        ((${#containers[@]})) || break
        # It fails for a container that another command removes at the same time.
        docker rm --force --volumes "${containers[@]}" >/dev/null 2>&1 || true
    done
    mapfile -t containers < <(containers_of_cluster)
    ((${#containers[@]} == 0)) || fail "The Docker engine did not remove: ${containers[*]}"
    stop kube-scheduler kube-controller-manager kube-apiserver
    stop etcd
    restore_machine
    mapfile -t mounts < <(awk -v below="$run/" 'index($5 "/", below) == 1 { print $5 }' /proc/self/mountinfo)
    for ((number = ${#mounts[@]} - 1; number >= 0; number--)); do
        printf -v mount '%b' "${mounts[number]//\\/\\0}"
        umount "$mount" || umount --lazy "$mount" || true
    done
    # The node's links to logs. `up` starts only where there are no others.
    if [[ -e $run/owns-logs ]]; then
        find /var/log/pods /var/log/containers -type l -delete 2>/dev/null || true
        find /var/log/pods /var/log/containers -depth -type d -empty -delete 2>/dev/null || true
    fi
    if [[ $(readlink "$made_volumes" || true) == "$run/volumes" ]]; then rm -f "$made_volumes"; fi
    rm -rf --one-file-system "$run"
    starting=''
}

# The settings of the machine that the kubelet changes.
restore_machine() {
    local name value pid
    if [[ -f $run/tunables ]]; then
        while read -r name value; do
            [[ $(<"/proc/sys/$name") == "$value" ]] || echo "$value" >"/proc/sys/$name" || true
        done <"$run/tunables"
    fi
    if [[ -f $run/engine ]]; then
        read -r pid value <"$run/engine"
        if [[ $(<"/proc/$pid/comm") == dockerd ]]; then echo "$value" >"/proc/$pid/oom_score_adj" || true; fi
    fi 2>/dev/null
}

# Saves what restore_machine restores.
read_machine() {
    local name pid
    for name in "${tunables[@]}"; do
        if [[ -r /proc/sys/$name ]]; then echo "$name $(<"/proc/sys/$name")"; fi
    done >"$run/tunables"
    if pid=$(cat /var/run/docker.pid 2>/dev/null); then echo "$pid $(<"/proc/$pid/oom_score_adj")" >"$run/engine"; fi
}
