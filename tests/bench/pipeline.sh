#!/bin/sh
# The same provisioning as profiles/quickstart by hand: what people have without vmlab.
# Usage: pipeline.sh IMAGE FORMAT SITE_FOLDER SCRIPT WORK_FOLDER PORT. Prints nothing but errors.
set -eu
image=$1 format=$2 site=$3 script=$4 work=$5 port=$6
name=vmlab-bench-$$
uuid=$(cat /proc/sys/kernel/random/uuid)
cleanup() {
    virsh -q destroy "$name" >/dev/null 2>&1 || true
    virsh -q undefine --snapshots-metadata "$name" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
mkdir -p "$work/seed"
chmod 755 "$work"

qemu-img create -q -f qcow2 -b "$image" -F "$format" "$work/disk.qcow2" 8G

ssh-keygen -q -t ed25519 -N '' -f "$work/user"
ssh-keygen -q -t ed25519 -N '' -f "$work/host"
{
    echo '#cloud-config'
    echo 'users:'
    echo ' - name: lab'
    echo '   shell: /bin/bash'
    echo '   sudo: "ALL=(ALL) NOPASSWD:ALL"'
    echo "   ssh_authorized_keys: ['$(cat "$work/user.pub")']"
    echo 'ssh_deletekeys: true'
    echo 'ssh_keys:'
    echo '  ed25519_private: |'
    sed 's/^/    /' "$work/host"
    echo "  ed25519_public: $(cat "$work/host.pub")"
} >"$work/seed/user-data"
echo "{instance-id: $uuid, local-hostname: bench}" >"$work/seed/meta-data"
xorriso -as mkisofs -quiet -V cidata -J -r -o "$work/seed.iso" "$work/seed" 2>/dev/null

cat >"$work/domain.xml" <<EOF
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>$name</name><uuid>$uuid</uuid><memory unit='MiB'>1024</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/><apic/></features>
  <cpu mode='maximum'/>
  <devices>
    <disk type='file'><driver name='qemu' type='qcow2' discard='unmap'/><source file='$work/disk.qcow2'/>
      <backingStore type='file'><format type='$format'/><source file='$image'/><backingStore/></backingStore>
      <target dev='vda' bus='virtio'/></disk>
    <disk type='file'><driver name='qemu' type='raw'/><source file='$work/seed.iso'/>
      <target dev='vdb' bus='virtio'/><readonly/></disk>
    <serial type='pty'><log file='$work/console.log' append='on'/></serial><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-netdev'/><qemu:arg value='user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22'/>
    <qemu:arg value='-device'/><qemu:arg value='virtio-net-pci,netdev=n0,bus=pcie.0,addr=0x10'/>
  </qemu:commandline>
</domain>
EOF
virsh -q define "$work/domain.xml"
virsh -q start "$name"

echo "[127.0.0.1]:$port $(cat "$work/host.pub")" >"$work/known"
guest() {
    ssh -F none -q -i "$work/user" -p "$port" -o UserKnownHostsFile="$work/known" -o StrictHostKeyChecking=yes \
        -o ConnectTimeout=5 -o BatchMode=yes lab@127.0.0.1 "$@"
}
tries=0
until guest true; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { echo "no SSH" >&2; exit 1; }
    sleep 0.5
done
guest sudo cloud-init status --wait >/dev/null || [ $? = 2 ]
virsh -q snapshot-create-as "$name" clean-boot >/dev/null
tar -C "$site" -cf - . | guest 'sudo mkdir -p /srv/site && sudo tar -C /srv/site -xf -'
guest 'sudo sh -es' >/dev/null <"$script"
guest 'systemctl is-active -q web && curl -fsS localhost:8080' >"$work/answer"
grep -q hello "$work/answer"
virsh -q snapshot-create-as "$name" provisioned >/dev/null
