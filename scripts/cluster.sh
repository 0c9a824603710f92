#!/usr/bin/env bash
# Starts and ends a Kubernetes cluster of one node, for tests of what runs on Kubernetes.
here=$PWD
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

usage() {
    cat <<'END'
usage: scripts/cluster.sh COMMAND

Starts a real Kubernetes cluster of one node on loopback. Its pods run on this machine's Docker engine. It needs Debian,
root, and a Docker engine on a local socket. It does not need an image registry.

  build [--keep-source]   compile the programs from Debian's source unless that has been done (15 minutes)
  up                      start the cluster, after `build`, and print `export KUBECONFIG=...`
  status                  print what runs; the exit code is 3 if something does not
  role FILE NAMESPACE     grant the user "developer" the Roles of FILE in NAMESPACE, and revoke earlier ones there
  kubectl ARGUMENTS       run the cluster's kubectl as administrator
  down                    stop the cluster and remove its containers, mounts and files

Everything is in $TRITON_CLUSTER_CACHE (default: ~/.cache/triton-env/cluster): programs/, logs/ of a build, and run/,
the state of a running cluster. run/kubeconfig is for an administrator. run/kubeconfig-limited is for the user
"developer", who has no rights before `role`.

Differences from most clusters:

- Kubernetes is version 1.20.
- The cluster IPs of Services do not answer, because kube-proxy does not run. Endpoints are correct.
- Names of Services do not resolve: pods use the name servers of this machine.
- Pods cannot reach the API server, which listens on loopback. This machine reaches pods by their IPs and by
  `kubectl port-forward`.
- Images come from the Docker engine. Use imagePullPolicy Never or IfNotPresent.
- The StorageClass "standard" creates a directory of this machine for a claim as soon as a pod uses it. The directory
  belongs to root and is writable for all users; fsGroup does not change it. `down` deletes it.
- One Docker engine can hold one cluster, since a node removes containers with Kubernetes labels that it does not know.
  `up` refuses to start where it finds such containers.
END
}

# refuse WORDS: wrong use.
refuse() {
    say "$*"
    usage >&2
    exit 2
}

# fail WORDS: ends this script.
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
# Where the controller manager creates volumes: a constant of its source.
made_volumes=/tmp/hostpath_pv
pause_image=triton-env/standin-pause:1
standin_label=org.triton-env.standin
# Every container of a node has this label.
container_label=io.kubernetes.docker.type
# What a kubelet sets for the whole machine when it starts.
tunables=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys
    kernel/keys/root_maxbytes net/bridge/bridge-nf-call-iptables)

# The process group of a running build step, and what shows its progress.
group=''
progress=''
# Not empty between the first step of a start and its success.
starting=''

# shellcheck source=scripts/_cluster_build.sh
source scripts/_cluster_build.sh
# shellcheck source=scripts/_cluster_parts.sh
source scripts/_cluster_parts.sh
# shellcheck source=scripts/_cluster_processes.sh
source scripts/_cluster_processes.sh

# For commands that change something: one at a time.
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
    ((EUID == 0)) || fail "Run this as root: a node mounts file systems and enters namespaces."
}

kubectl() { "$programs/bin/kubectl" --kubeconfig "$run/kubeconfig" --cache-dir "$run/cache" "$@"; }

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
    [[ $socket == unix://* ]] || fail "The node needs a Docker engine on a local socket, not $socket."
    [[ $cgroups == 1 ]] || say "Warning: the node was tested with control groups of version 1 only, and not $cgroups."
    # A node must have an address that is not loopback. Nothing listens there.
    ((${#run} <= 70)) || fail "The path of a socket may have 107 bytes, so $run is too long."
    address=$(hostname -I | tr ' ' '\n' | grep -m 1 '^[0-9.]*$') || fail "This machine has no network address."

    if [[ -e $run ]]; then
        say "Removing the rest of a cluster that does not run."
        remove_cluster
    fi
    refuse_foreign_node
    import_pause_image
    starting=yes
    (umask 077 && mkdir -p "$run"/{etcd,kubelet/plugins-of-volumes,logs,pids,tls,volumes})
    touch "$run/owns-logs"
    ln -s "$run/volumes" "$made_volumes" || fail "Another cluster on this machine uses $made_volumes."
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
        --container-runtime-endpoint="unix://$run/dockershim.sock" \
        --image-service-endpoint="unix://$run/dockershim.sock"
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
    # The kubelet sets them once, before the node is ready.
    restore_machine
    # A namespace without this account refuses pods.
    wait_for "Waiting for the service account" kube-controller-manager kubectl get serviceaccount default
    starting=''
    say "The cluster was started in $((SECONDS - began)) s. To stop it: bash scripts/cluster.sh down"
    print_export
}

print_export() { printf 'export KUBECONFIG=%q\n' "$run/kubeconfig"; }

# A node removes containers and logs of pods that it does not know.
refuse_foreign_node() {
    local foreign
    foreign=$(docker ps --all --quiet --filter "label=$container_label")
    if [[ -n $foreign ]]; then
        say "Refusing to start: another Kubernetes node uses this Docker engine, or has left containers."
        fail "hint: docker ps --all --filter label=$container_label"
    fi
    if [[ -n $(find /var/log/pods -mindepth 1 -print -quit 2>/dev/null) ]]; then
        fail "Refusing to start: another Kubernetes node uses this machine, or has left logs in /var/log/pods."
    fi
    # The link of a cluster whose files were deleted.
    if [[ -L $made_volumes && ! -e $made_volumes ]]; then rm -f "$made_volumes"; fi
}

import_pause_image() {
    local inputs template="{{index .Config.Labels \"$standin_label.inputs\"}}"
    inputs=$(sha256sum <"$programs/bin/pause")
    inputs=${inputs%% *}
    if [[ $(docker image inspect --format "$template" "$pause_image" 2>/dev/null) != "$inputs" ]]; then
        tar --create --directory "$programs/bin" --owner 0 --group 0 pause |
            docker import --change 'ENTRYPOINT ["/pause"]' \
                --change "LABEL $standin_label=true $standin_label.inputs=$inputs" - "$pause_image" >/dev/null
    fi
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
    local file=$1 namespace=$2 kind name made binding
    [[ $file == /* ]] || file=$here/$file
    cluster_works || fail "No cluster runs. hint: bash scripts/cluster.sh up"
    made=$(kubectl create --dry-run=client --filename "$file" --output name)
    grep -q '^\(cluster\)\?role\.' <<<"$made" || fail "$file does not contain a Role."
    kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace" >&2
    kubectl apply --namespace "$namespace" --filename "$file" >&2
    kubectl delete rolebindings --namespace "$namespace" --selector "$standin_label=developer" >&2
    while IFS=/ read -r kind name; do
        case $kind in
        role.* | clusterrole.*)
            binding=developer-${kind%%.*}-$name
            kubectl create rolebinding "$binding" --namespace "$namespace" --user developer "--${kind%%.*}=$name" >&2
            kubectl label rolebinding "$binding" --namespace "$namespace" "$standin_label=developer" >/dev/null
            ;;
        esac
    done <<<"$made"
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
        say "The cluster was stopped."
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
