#!/usr/bin/env bash
# Starts and ends a Kubernetes cluster of one node, for tests of what runs on Kubernetes.
here=$PWD
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

usage() {
    cat <<'END'
usage: scripts/cluster.sh COMMAND

A real Kubernetes cluster of one node on loopback, whose pods run on this machine's Docker engine. It needs root, a
Debian and a Docker engine of this machine, and no registry of images.

  build [--keep-source]   build its programs from Debian's source, where that has not happened yet (15 minutes)
  up                      start it, after a build where needed; prints `export KUBECONFIG=...`
  status                  say what runs; exit code 3 where something does not
  role FILE NAMESPACE     give the user of the second kubeconfig the Role of FILE in NAMESPACE, and nothing else
  kubectl ARGUMENTS       run the cluster's own kubectl, as its administrator
  down                    end it, and remove its containers, mounts and files

Programs, logs of a build and, in the folder run/, all that a running cluster has are in $TRITON_CLUSTER_CACHE, which is
~/.cache/triton-env/cluster unless it is set. Kubeconfigs are run/kubeconfig, of an administrator, and
run/kubeconfig-limited, of the user "developer", who may do nothing before `role`.

How it differs from most clusters:

- There is no kube-proxy: Services have cluster IPs, but nothing answers there. Their Endpoints are right.
- There is no DNS for Services: pods have the name servers of this machine.
- Nothing in a pod reaches the API server, which listens on loopback. From this machine the IPs of pods can be reached,
  and so can ports that kubectl forwards.
- Images are those of the Docker engine. What it lacks would be pulled.
- The StorageClass "standard" makes a folder of this machine for a claim, once a pod uses it. It belongs to root, whatever
  the pod says of fsGroup, and all users may write there. `down` deletes it.
- Kubernetes is 1.20. The node takes any container of the engine that has labels of Kubernetes for its own, so that one
  engine can have only one cluster, and `up` refuses where such containers are.
END
}

# refuse WORDS: wrong use.
refuse() {
    say "$*"
    usage >&2
    exit 2
}

# fail WORDS: what does not work, and ends this script.
fail() {
    say "$*"
    exit 1
}

cache=${TRITON_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/triton-env/cluster}
# As the caller means it, although this script works in the project's folder.
[[ $cache == /* ]] || cache=$here/$cache
programs=$cache/programs
logs=$cache/logs
run=$cache/run
# In the order of their start.
components=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet)
# The API server reaches the node by this name.
node=localhost
# The folder in which the controller manager makes volumes. It cannot be told another.
made_volumes=/tmp/hostpath_pv
pause_image=triton-env/standin-pause:1
standin_label=org.triton-env.standin
# All that the node's containers carry.
container_label=io.kubernetes.docker.type
# What a kubelet sets for the whole machine when it starts.
tunables=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys
    kernel/keys/root_maxbytes net/bridge/bridge-nf-call-iptables)

# The process group of a running build step, and what shows its progress.
group=''
progress=''
# Whether this script has begun to start a cluster, and has not ended it or made it work.
starting=''

# shellcheck source=scripts/_cluster_build.sh
source scripts/_cluster_build.sh

# Only one of these commands works at a time.
take_lock() {
    (umask 077 && mkdir -p "$cache")
    exec {lock}>"$cache/lock"
    if ! flock --nonblock "$lock"; then
        say "Waiting for another cluster.sh."
        flock "$lock"
    fi
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    end_progress
    if [[ -n $group ]]; then
        kill -TERM -- "-$group" 2>/dev/null || true
        wait "$group" 2>/dev/null || true
    fi
    rm -rf "$cache/building"
    if [[ -n $starting ]]; then
        say "Removing what was started."
        remove_cluster
    fi
    exit "$status"
}

require_root() {
    ((EUID == 0)) || fail "The node of a cluster mounts and enters namespaces: run this as root."
}

kubectl() { "$programs/bin/kubectl" --kubeconfig "$run/kubeconfig" --cache-dir "$run/cache" "$@"; }

# --- Processes ---

# started PID: what tells a process from another one that gets its number later.
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

# start NAME COMMAND...: in its own session, which Ctrl-C does not reach. The working directory is run/, since the paths
# of sockets are limited to 107 bytes.
start() {
    local name=$1
    shift
    (
        # Files in containers come from here too, and are for all users of a container, as are volumes. Nobody but root gets
        # into run/.
        if [[ $name == kube-controller-manager ]]; then umask 0; else umask 022; fi
        cd "$run"
        # The kubelet looks for socat.
        export PATH=$programs/bin:$PATH
        exec setsid "$programs/bin/$name" "$@" </dev/null >"logs/$name.log" 2>&1 {lock}>&-
    ) &
    echo "$! $(started $!)" >"$run/pids/$name"
}

# stop NAME...: all of them at once, with what they have started themselves.
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

# wait_for WORDS NAME COMMAND...: until the command succeeds, at most two minutes, and only while the component NAME runs.
wait_for() {
    local words=$1 name=$2 began=$SECONDS said=$SECONDS pid
    shift 2
    until "$@" >/dev/null 2>&1; do
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

# --- Ending ---

# Whether run/ holds a cluster all of which works.
cluster_works() {
    local name pid
    for name in "${components[@]}"; do
        lives "$name" || return 1
    done
    kubectl get --raw /readyz --request-timeout 10s >/dev/null 2>&1
}

# Containers of this cluster's pods. The node writes down its sandboxes, and the containers in them carry their ids.
containers_of_cluster() {
    local known id uid sandbox
    known=,$(find "$run/dockershim/sandbox" "$run/kubelet/pods" -mindepth 1 -maxdepth 1 -printf '%f,' 2>/dev/null || true)
    docker ps --all --no-trunc --filter "label=$container_label" \
        --format '{{.ID}},{{.Label "io.kubernetes.pod.uid"}},{{.Label "io.kubernetes.sandbox.id"}}' |
        while IFS=, read -r id uid sandbox; do
            if [[ $known == *,"$id",* || $known == *,"${uid:-none}",* || $known == *,"${sandbox:-none}",* ]]; then
                echo "$id"
            fi
        done
}

# remove_cluster: whatever is left of it, in an order in which nothing comes back.
remove_cluster() {
    local containers mounts mount number tries
    [[ -e $run ]] || return 0
    stop kubelet
    # What its containers are is known by what is in run/, so that must stay while they cannot be removed.
    docker version >/dev/null || fail "No Docker engine answers, so the cluster's containers cannot be removed."
    for ((tries = 0; tries < 5; tries++)); do
        mapfile -t containers < <(containers_of_cluster)
        ((${#containers[@]})) || break
        # Some may end by themselves meanwhile.
        docker rm --force --volumes "${containers[@]}" >/dev/null 2>&1 || true
    done
    stop kube-scheduler kube-controller-manager kube-apiserver
    stop etcd
    restore_machine
    mapfile -t mounts < <(awk -v below="$run/" 'index($5 "/", below) == 1 { print $5 }' /proc/self/mountinfo)
    for ((number = ${#mounts[@]} - 1; number >= 0; number--)); do
        printf -v mount '%b' "${mounts[number]//\\/\\0}"
        umount "$mount" || umount --lazy "$mount" || true
    done
    # The node's links to logs. `up` has seen that there were no others.
    if [[ -e $run/owns-logs ]]; then
        find /var/log/pods /var/log/containers -type l -delete 2>/dev/null || true
        find /var/log/pods /var/log/containers -depth -type d -empty -delete 2>/dev/null || true
    fi
    if [[ $(readlink "$made_volumes" || true) == "$run/volumes" ]]; then rm -f "$made_volumes"; fi
    rm -rf --one-file-system "$run"
    starting=''
    ((${#containers[@]} == 0)) || fail "The engine has not removed: ${containers[*]}"
}

# What a kubelet has set for the whole machine.
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

# --- Starting ---

up() {
    local began=$SECONDS socket driver cgroups address
    require_root
    if cluster_works; then
        say "The cluster runs."
        print_export
        return
    fi
    require_tools docker openssl nsenter setsid awk
    build
    began=$SECONDS
    socket=$(docker context inspect --format '{{.Endpoints.docker.Host}}')
    driver=$(docker info --format '{{.CgroupDriver}} {{.CgroupVersion}}') || fail "No Docker engine answers."
    read -r driver cgroups <<<"$driver"
    [[ $socket == unix://* ]] || fail "The node needs a Docker engine on a socket of this machine, and not $socket."
    [[ $cgroups == 1 ]] || say "The node was not tried with version $cgroups of control groups."
    # An address of this machine, and not one of loopback: a node has to have one. Nothing listens there.
    address=$(hostname -I | tr ' ' '\n' | grep -m 1 '^[0-9.]*$') || fail "This machine has no network address."

    if [[ -e $run ]]; then
        say "A cluster was left here: removing it."
        remove_cluster
    fi
    refuse_foreign_node
    import_pause_image
    starting=yes
    (umask 077 && mkdir -p "$run"/{etcd,kubelet/plugins-of-volumes,logs,pids,tls,volumes})
    touch "$run/owns-logs"
    ln -s "$run/volumes" "$made_volumes" || fail "Another cluster of this machine has $made_volumes."
    read_machine
    say "Starting a cluster ..."
    (
        umask 077
        write_certificates
        write_tokens_and_kubeconfigs
    )
    write_kubelet_configuration "$driver"
    start_control_plane "$address"
    start kubelet --config="$run/kubelet.yaml" --kubeconfig="$run/kubelet.kubeconfig" --root-dir="$run/kubelet" \
        --cert-dir="$run/tls" --hostname-override="$node" --node-ip="$address" --docker-endpoint="$socket" \
        --pod-infra-container-image="$pause_image" --experimental-dockershim-root-directory="$run/dockershim" \
        --container-runtime-endpoint="unix://$run/dockershim.sock" --image-service-endpoint="unix://$run/dockershim.sock"
    kubectl apply --filename - >/dev/null <<'END'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/host-path
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
END
    wait_for "Waiting for the node" kubelet kubectl wait --for=condition=Ready "node/$node" --timeout=1s
    # It has set them before it was ready, and does so only once.
    restore_machine
    # Without it no pod can be made in this namespace.
    wait_for "Waiting for an account of pods" kube-controller-manager kubectl get serviceaccount default
    starting=''
    say "The cluster runs, after $((SECONDS - began)) s. To end it: bash scripts/cluster.sh down"
    print_export
}

print_export() { printf 'export KUBECONFIG=%q\n' "$run/kubeconfig"; }

# A node removes containers, and logs of pods, that it does not know. So there must be none but its own.
refuse_foreign_node() {
    local foreign
    foreign=$(docker ps --all --quiet --filter "label=$container_label")
    if [[ -n $foreign ]]; then
        say "Another node of Kubernetes works with this Docker engine, or has left containers."
        fail "hint: docker ps --all --filter label=$container_label"
    fi
    if [[ -n $(find /var/log/pods -mindepth 1 -print -quit 2>/dev/null) ]]; then
        fail "Another node of Kubernetes works on this machine, or has left its logs: see /var/log/pods."
    fi
    if [[ -L $made_volumes && ! -e $made_volumes ]]; then
        # Its cluster is no more.
        rm -f "$made_volumes"
    fi
}

import_pause_image() {
    local inputs
    inputs=$(sha256sum <"$programs/bin/pause")
    inputs=${inputs%% *}
    if [[ $(docker image inspect --format "{{index .Config.Labels \"$standin_label.inputs\"}}" "$pause_image" 2>/dev/null) != "$inputs" ]]; then
        tar --create --directory "$programs/bin" --owner 0 --group 0 pause |
            docker import --change 'ENTRYPOINT ["/pause"]' --change "LABEL $standin_label=true $standin_label.inputs=$inputs" \
                - "$pause_image" >/dev/null
    fi
}

read_machine() {
    local name pid
    for name in "${tunables[@]}"; do
        if [[ -r /proc/sys/$name ]]; then echo "$name $(<"/proc/sys/$name")"; fi
    done >"$run/tunables"
    if pid=$(cat /var/run/docker.pid 2>/dev/null); then echo "$pid $(<"/proc/$pid/oom_score_adj")" >"$run/engine"; fi
}

# One authority; a certificate of the servers, and one with which the API server shows the node who it is.
write_certificates() {
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    cd "$run/tls"
    openssl req -x509 "${key[@]}" -days 3650 -subj /CN=triton-env-cluster -keyout ca.key -out ca.crt 2>/dev/null
    sign server /CN=localhost "subjectAltName=DNS:localhost,IP:127.0.0.1"$'\n'"extendedKeyUsage=serverAuth"
    sign client /O=system:masters/CN=kube-apiserver "extendedKeyUsage=clientAuth"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out accounts.key
    openssl pkey -in accounts.key -pubout -out accounts.pub
}

# sign NAME SUBJECT EXTENSIONS
sign() {
    openssl req "${key[@]}" -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile <(echo "$3") \
        -out "$1.crt" 2>/dev/null
}

write_tokens_and_kubeconfigs() {
    local user groups file token api_port
    free_ports >"$run/ports"
    read -r api_port _ <"$run/ports"
    while read -r file user groups; do
        token=$(openssl rand -hex 32)
        echo "$token,$user,$user${groups:+,$groups}" >>"$run/tokens.csv"
        cat >"$run/$file" <<END
apiVersion: v1
kind: Config
clusters:
- name: triton-env
  cluster:
    server: https://127.0.0.1:$api_port
    certificate-authority-data: $(base64 --wrap 0 "$run/tls/ca.crt")
users:
- name: $user
  user: {token: $token}
contexts:
- name: triton-env
  context: {cluster: triton-env, user: $user}
current-context: triton-env
END
    done <<END
kubeconfig administrator system:masters
kubeconfig-limited developer
kube-controller-manager.kubeconfig system:kube-controller-manager
kube-scheduler.kubeconfig system:kube-scheduler
kubelet.kubeconfig system:node:$node system:nodes
END
}

# Two ports that are free now, below those that the system gives away by itself.
free_ports() {
    "$(find_python)" - <<'END'
import contextlib
import random
import socket

found = set()
while len(found) < 2:
    with contextlib.closing(socket.socket()) as tried, contextlib.suppress(OSError):
        tried.bind(("127.0.0.1", random.randrange(20000, 30000)))
        found.add(tried.getsockname()[1])
print(*found)
END
}

# write_kubelet_configuration CGROUP_DRIVER
write_kubelet_configuration() {
    local kubelet_port
    read -r _ kubelet_port <"$run/ports"
    cat >"$run/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: $kubelet_port
readOnlyPort: 0
healthzPort: 0
tlsCertFile: $run/tls/server.crt
tlsPrivateKeyFile: $run/tls/server.key
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $run/tls/ca.crt}}
volumePluginDir: $run/kubelet/plugins-of-volumes
# Pods are in the control groups that Docker gives to any container.
cgroupDriver: $1
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
# Images of this engine belong to others, and a full disk is no reason to end pods of a test.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 1Mi}
# The packet filter of this machine stays as it is.
makeIPTablesUtilChains: false
# Its socket could not be below run/.
featureGates: {DevicePlugins: false}
clusterDNS: []
END
}

# start_control_plane ADDRESS
start_control_plane() {
    local tls=$run/tls api_port
    read -r api_port _ <"$run/ports"
    # Of a socket's name etcd wants that it looks like a host and a port. In run/ nobody else can reach it.
    start etcd --data-dir=etcd --listen-client-urls=unix://etcd:0 --advertise-client-urls=unix://etcd:0 \
        --listen-peer-urls=unix://peer:0 --initial-advertise-peer-urls=unix://peer:0 --initial-cluster=default=unix://peer:0
    start kube-apiserver --bind-address=127.0.0.1 --secure-port="$api_port" --insecure-port=0 --advertise-address="$1" \
        --endpoint-reconciler-type=none --etcd-servers=unix://etcd:0 --service-cluster-ip-range=10.96.0.0/16 \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --token-auth-file="$run/tokens.csv" \
        --tls-cert-file="$tls/server.crt" --tls-private-key-file="$tls/server.key" --client-ca-file="$tls/ca.crt" \
        --kubelet-certificate-authority="$tls/ca.crt" --kubelet-client-certificate="$tls/client.crt" \
        --kubelet-client-key="$tls/client.key" --kubelet-preferred-address-types=Hostname \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$tls/accounts.pub" \
        --service-account-signing-key-file="$tls/accounts.key" --allow-privileged=false
    wait_for "Waiting for the API server" kube-apiserver kubectl get --raw /readyz
    start kube-controller-manager --kubeconfig="$run/kube-controller-manager.kubeconfig" --leader-elect=false --port=0 \
        --secure-port=0 --use-service-account-credentials --service-account-private-key-file="$tls/accounts.key" \
        --root-ca-file="$tls/ca.crt" --enable-hostpath-provisioner --flex-volume-plugin-dir="$run/kubelet/plugins-of-volumes"
    start kube-scheduler --kubeconfig="$run/kube-scheduler.kubeconfig" --leader-elect=false --port=0 --secure-port=0
}

# --- The other commands ---

status() {
    local name pid works=yes
    if is_built; then echo "Programs: $programs"; else echo "Programs: not built"; fi
    if [[ ! -e $run ]]; then
        echo "No cluster runs."
        exit 3
    fi
    for name in "${components[@]}"; do
        if lives "$name"; then
            echo "$name runs as process $pid"
        else
            echo "$name does not run: see $run/logs/$name.log"
            works=''
        fi
    done
    kubectl get nodes --request-timeout 5s || works=''
    [[ -n $works ]] || exit 3
    print_export
}

# role FILE NAMESPACE
role() {
    local file=$1 namespace=$2 kind name made bindings=0
    [[ $file == /* || $file == - ]] || file=$here/$file
    cluster_works || fail "No cluster runs. hint: bash scripts/cluster.sh up"
    kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace" >&2
    made=$(kubectl apply --namespace "$namespace" --filename "$file" --output name)
    kubectl delete rolebindings --namespace "$namespace" --selector "$standin_label=developer" >&2
    while IFS=/ read -r kind name; do
        case $kind in
        role.* | clusterrole.*)
            kubectl create rolebinding "developer-$name" --namespace "$namespace" --user developer "--${kind%%.*}=$name" >&2
            kubectl label rolebinding "developer-$name" --namespace "$namespace" "$standin_label=developer" >/dev/null
            bindings=$((bindings + 1))
            ;;
        esac
    done <<<"$made"
    ((bindings)) || fail "$file holds no Role."
    kubectl config set-context --kubeconfig "$run/kubeconfig-limited" triton-env --namespace "$namespace" >/dev/null
    printf 'export KUBECONFIG=%q\n' "$run/kubeconfig-limited"
}

command=${1:-}
(($# == 0)) || shift
case $command in
-h | --help) usage ;;
build)
    (($# == 0)) || [[ $* == --keep-source ]] || refuse "build takes nothing but --keep-source."
    take_lock
    build "$@"
    ;;
up | down)
    (($# == 0)) || refuse "$command takes no arguments."
    require_root
    take_lock
    if [[ $command == up ]]; then
        up
    elif [[ -e $run ]]; then
        remove_cluster
        say "The cluster was ended."
    else
        say "No cluster runs."
    fi
    ;;
status)
    (($# == 0)) || refuse "status takes no arguments."
    status
    ;;
role)
    (($# == 2)) || refuse "role takes a file and a namespace."
    role "$@"
    ;;
kubectl)
    cluster_works || fail "No cluster runs. hint: bash scripts/cluster.sh up"
    cd "$here"
    kubectl "$@"
    ;;
'') refuse "Name a command." ;;
*) refuse "There is no command $command." ;;
esac
