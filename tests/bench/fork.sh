#!/bin/sh
# Warm forks by hand: copy the disk, define, redefine the snapshot, revert, first SSH command.
# fork.sh URI UUID SNAPSHOT KEY USER OLD_PORT WORK PORT...: one fork for each PORT, all at once, below WORK.
# Prints for each the seconds from the beginning to its first command, then all are taken away again.
set -eu
uri=$1 uuid=$2 snapshot=$3 key=$4 user=$5 old=$6 work=$7
shift 7
virsh() { command virsh -q -c "$uri" "$@"; }
begun=$(date +%s.%N)
virsh snapshot-dumpxml "$uuid" "$snapshot" >"$work/origin.xml"
disk=$(sed -n "s#.*<source file='\(.*/$uuid/\)disk.qcow2'.*#\1#p" "$work/origin.xml" | head -n 1)
name=$(virsh domname "$uuid")
owner=$(stat -c %u:%g "$disk")

fork() { # PORT
    folder=$work/$1/ new=$(cat /proc/sys/kernel/random/uuid)
    mkdir -m 700 "$folder"
    chown "$owner" "$folder"
    cp --reflink=auto --sparse=always "${disk}disk.qcow2" "${disk}seed.iso" "$folder"
    sed "s/<uuid>$uuid</<uuid>$new</; s/<name>$name</<name>fork-by-hand-$1</; s#$disk#$folder#; s/:$old-:/:$1-:/; /<parent>/,/<\/parent>/d" \
        "$work/origin.xml" >"$folder/snapshot.xml"
    sed -n '/<domain /,/<\/domain>/p' "$folder/snapshot.xml" >"$folder/domain.xml"
    virsh define "$folder/domain.xml"
    virsh snapshot-create --redefine --current "fork-by-hand-$1" "$folder/snapshot.xml"
    virsh snapshot-revert "fork-by-hand-$1" "$snapshot"
    until ssh -F none -i "$key" -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR \
        -o ConnectTimeout=20 -p "$1" "$user@127.0.0.1" true; do sleep 0.1; done
    echo "$begun $(date +%s.%N)" | awk '{ printf "%.3f\n", $2 - $1 }'
}

take_away() {
    for port; do
        virsh destroy "fork-by-hand-$port" >/dev/null 2>&1 || true
        virsh undefine --snapshots-metadata "fork-by-hand-$port" >/dev/null 2>&1 || true
        rm -rf "${work:?}/$port"
    done
}
trap 'take_away "$@"' EXIT
for port; do fork "$port" & done
wait
