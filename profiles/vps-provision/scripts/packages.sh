#!/bin/sh
# What a developer expects on any machine.
set -eu

# the daily jobs would hold apt's locks in the middle of a step
systemctl stop apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service 2>/dev/null || true

# without the lists, what follows would only say that there is no such package
if ! apt-get update --error-on=any; then
    echo "Debian's archive does not answer: the guest needs a way out (network: user), and this machine too" >&2
    exit 100
fi
apt-get install -y \
    build-essential ca-certificates curl git gnupg htop jq less man-db \
    openssh-client python3 python3-pip python3-venv rsync tmux tree unzip vim wget
