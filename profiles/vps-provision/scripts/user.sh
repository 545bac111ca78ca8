#!/bin/sh
# The developer's account: sudo without a password; a password for RDP only if the caller gives one.
set -eu

if ! getent passwd dev >/dev/null; then
    useradd --create-home --shell /bin/bash --comment 'Developer' dev
fi
usermod --append --groups sudo dev

rules=$(mktemp)
echo 'dev ALL=(ALL) NOPASSWD: ALL' > "$rules"
visudo --check --quiet --file="$rules"
install -m 440 -o root -g root "$rules" /etc/sudoers.d/dev
rm -f "$rules"

if [ -n "${RDP_PASSWORD:-}" ]; then
    # on standard input: a command line could be read by every user
    printf 'dev:%s\n' "$RDP_PASSWORD" | chpasswd
    echo 'dev: password set'
else
    echo 'dev: no password (RDP_PASSWORD was not given), so no login by RDP'
fi
