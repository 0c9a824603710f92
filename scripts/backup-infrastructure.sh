#!/usr/bin/env bash
# Saves what the persistent services hold to a file with the date in its name, and deletes the oldest of these files.
# A file is deleted only after the new one was made and verified, and only if its name is one that this script gives.
here=$PWD
# shellcheck source=scripts/_setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"

usage() {
    cat <<'END'
usage: scripts/backup-infrastructure.sh [FOLDER] [--keep N] [options of `python -m triton_env backup`]

Saves what the persistent services hold to FOLDER/triton-DATE.backup, and keeps the newest N of these files.
FOLDER is ./backups unless it is named, N is 7.
END
}

# refuse WORDS: wrong use.
refuse() {
    say "$*"
    usage >&2
    exit 2
}

folder=''
keep=7
options=()
while (($# > 0)); do
    case $1 in
        -h | --help)
            usage
            exit
            ;;
        --keep | --services | --project)
            (($# > 1)) || refuse "$1 needs a value."
            if [[ $1 == --keep ]]; then keep=$2; else options+=("$1" "$2"); fi
            shift
            ;;
        --keep=*) keep=${1#--keep=} ;;
        -*) options+=("$1") ;;
        *)
            [[ -z $folder ]] || refuse "Two folders were named: $folder and $1."
            folder=$1
            ;;
    esac
    shift
done
[[ $keep =~ ^[1-9][0-9]{0,5}$ ]] || refuse "--keep takes a number of files from 1 on, and not '$keep'."
folder=${folder:-backups}
# As the caller means it, although this script works in the project's folder.
[[ $folder == /* ]] || folder=$here/$folder

make_venv --no-dev
mkdir -p "$folder"
file=$folder/triton-$(date -u +%Y%m%dT%H%M%SZ).backup
.venv/bin/python -m triton_env backup "$file" --persistent ${options[@]+"${options[@]}"}
.venv/bin/python -m triton_env backup "$file" --verify

# The names sort by date.
mine=()
for each in "$folder"/triton-*.backup; do
    if [[ -f $each && ! -L $each && ${each##*/} =~ ^triton-[0-9]{8}T[0-9]{6}Z\.backup$ ]]; then
        mine+=("$each")
    fi
done
for ((number = 0; number < ${#mine[@]} - keep; number++)); do
    say "Deleting ${mine[number]}: $keep newer ones are kept."
    rm -f -- "${mine[number]}"
done
