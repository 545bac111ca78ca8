"""As much of VNC as it takes to be let in (RFC 6143, 7.1 and 7.2.2)."""

from __future__ import annotations

import socket

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

NO_AUTHENTICATION, PASSWORD = 1, 2


def _response(password: str, challenge: bytes) -> bytes:
    # the protocol's DES takes the bits of each byte of the key the other way round
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
    seal = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # it is the protocol's
    return seal.update(challenge) + seal.finalize()


def lets_in(port: int, password: str = "") -> bool:
    """Whether the display on that port of 127.0.0.1 shows itself to who has ``password``, or none."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        file = one.makefile("rwb")
        assert file.read(12) == b"RFB 003.008\n"
        file.write(b"RFB 003.008\n")
        file.flush()
        kinds = file.read(file.read(1)[0])
        kind = PASSWORD if password else NO_AUTHENTICATION
        if kind not in kinds:
            return False
        file.write(bytes([kind]))
        if password:
            file.flush()
            file.write(_response(password, file.read(16)))
        file.flush()
        return file.read(4) == bytes(4)
