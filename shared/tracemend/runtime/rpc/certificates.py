"""Server credentials that follow the certificate files: gRPC asks at every handshake, so rotation needs no restart."""

from __future__ import annotations

import time
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.runtime.rpc.files import Reloaded
from tracemend.runtime.rpc.settings import ServerTls


def server_credentials(tls: ServerTls, *, asks_for_certificate: bool) -> Any:
    """`grpc.ServerCredentials` of `tls`; where a certificate is asked for, it is required and verified."""
    import grpc

    paths = [path for path in (tls.cert_file, tls.key_file, tls.client_ca_file) if path is not None]
    current = Reloaded(paths, lambda: _configuration(tls, asks_for_certificate))
    told = 0

    def changed() -> Any:
        nonlocal told
        configuration = current.get()
        if current.version == told:
            return None
        told = current.version
        return configuration

    return grpc.dynamic_ssl_server_credentials(
        current.get(), changed, require_client_authentication=asks_for_certificate
    )


def seconds_left(tls: ServerTls) -> float:
    """How long the server's own certificate is good for; negative once it is not."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificates(tls.cert_file.read_bytes())[0]
    return certificate.not_valid_after_utc.timestamp() - time.time()


def _configuration(tls: ServerTls, asks_for_certificate: bool) -> Any:
    import grpc

    try:
        pair = (tls.key_file.read_bytes(), tls.cert_file.read_bytes())
        authority = tls.client_ca_file.read_bytes() if asks_for_certificate and tls.client_ca_file else None
    except OSError as error:
        raise SetupError(f"tls: cannot read {error.filename} ({type(error).__name__})") from None
    _check_pair(tls, *pair)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=authority)


def _check_pair(tls: ServerTls, key: bytes, certificate: bytes) -> None:
    """A key that is not the certificate's would break every handshake; half-way through a rotation it is."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        public = load_pem_private_key(key, password=None).public_key()
        signed = x509.load_pem_x509_certificates(certificate)[0].public_key()
    except (ValueError, TypeError):
        raise SetupError(f"tls: {tls.cert_file} or {tls.key_file} is no unencrypted PEM") from None
    if public != signed:
        raise SetupError(f"tls: {tls.key_file} is not the key of {tls.cert_file}")
