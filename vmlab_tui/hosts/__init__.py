"""libvirt: connections, domains, snapshots, consoles."""
