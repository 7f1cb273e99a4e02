"""
certificates.py - a certificate authority and what it signs, for tests of TLS.

    def test_it(certificates):
        certificates.good.cert, certificates.good.key      # paths; .cert holds the chain, .pem both
        certificates.ca                                    # the path of the root that signed it

Keys are elliptic, so that all of it takes some milliseconds. Between the root and all certificates there is an
intermediate authority. Every name that tests connect to is in `good`; the others each have one thing wrong.
"""

import collections
import datetime
import ipaddress
import os
import pathlib
import shutil
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = ("localhost", "db.test", "127.0.0.1", "::1")	# of `good`

Pair = collections.namedtuple("Pair", "cert key pem")
_Authority = collections.namedtuple("_Authority", "name key certificate")


def days(n):
    return datetime.timedelta(days=n)


def _name(common):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "stent test"), x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(subject, issuer, public_key, valid):
    now = datetime.datetime.utcnow()
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
            .serial_number(x509.random_serial_number()).not_valid_before(now + days(valid[0])).not_valid_after(now + days(valid[1]))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False))


def _authority(common, by=None, valid=(-10, 400)):
    key = ec.generate_private_key(ec.SECP256R1())
    signer = by or _Authority(_name(common), key, None)
    certificate = (_builder(_name(common), signer.name, key.public_key(), valid)
                   .add_extension(x509.BasicConstraints(True, None), True)
                   .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), False)
                   .sign(signer.key, hashes.SHA256()))
    return _Authority(_name(common), key, certificate)


class Certificates:
    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="stent-certificates-"))
        self.directory.chmod(0o755)		# servers run as users of their own
        root = _authority("Test Root CA")
        self._intermediate = _authority("Test CA", root)
        other = _authority("Another CA")
        self.ca = self._write("ca.pem", _pem(root.certificate))
        self.other_ca = self._write("other_ca.pem", _pem(other.certificate))
        self.good = self.make("good", *NAMES)
        self.readable = self.make("readable", *NAMES)		# also by the user that stent becomes
        if os.geteuid() == 0:
            shutil.chown(self.readable.key, "nobody")
        self.name_only = self.make("name_only", "localhost")
        self.ip_only = self.make("ip_only", "127.0.0.1")
        self.wrong_name = self.make("wrong_name", "other.test")
        self.expired = self.make("expired", *NAMES, valid=(-20, -1))
        self.expires_soon = self.make("expires_soon", *NAMES, valid=(-20, 10))
        self.not_yet_valid = self.make("not_yet_valid", *NAMES, valid=(1, 20))
        self.self_signed = self.make("self_signed", *NAMES, by=None)
        self.client = self.make("client", "app")
        self.other_client = self.make("other_client", "app", by=other)

    def close(self):
        shutil.rmtree(self.directory)

    def _write(self, name, data, mode=0o644):
        path = self.directory / name
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def make(self, common, *names, by=True, valid=(-10, 300), key=None):
        """
        A certificate for these names, signed by the intermediate authority, by another one, or (by=None) by itself. key:
        a private key of another kind.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        signer = self._intermediate if by is True else by or _Authority(_name(common), key, None)
        certificate = (_builder(_name(common), signer.name, key.public_key(), valid)
                       .add_extension(x509.BasicConstraints(False, None), True)
                       .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), False)
                       .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
                       .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), False)
                       .sign(signer.key, hashes.SHA256()))
        chain = _pem(certificate) + (_pem(self._intermediate.certificate) if by is True else b"")
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Pair(self._write(f"{common}.pem", chain), self._write(f"{common}.key", secret, 0o600),
                    self._write(f"{common}.both.pem", chain + secret, 0o600))

    def make_chain(self, common, n, *names):
        """The same with n authorities more between it and the root; all are in .cert."""
        authorities = [self._intermediate]
        for i in range(n):
            authorities.append(_authority(f"Test CA {i}", authorities[-1]))
        pair = self.make(common, *names, by=authorities[-1])
        pair.cert.write_bytes(pair.cert.read_bytes() + b"".join(_pem(a.certificate) for a in reversed(authorities)))
        return pair

    def encrypted_key(self, pair):
        """The key of a pair, behind a passphrase."""
        key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
        return self._write(f"{pair.key.stem}.encrypted.key", key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")), 0o600)
