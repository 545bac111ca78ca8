"""libvirt: connections, domains, snapshots, consoles."""

import os

# What libvirt's client would say to standard error comes to us as an error as well; there it stands in the
# middle of a screen. Read when the library is loaded; whoever wants its log can name another place.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
