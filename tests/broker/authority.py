"""An authority whose certificates brokers and clients show each other."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import require


@dataclass(frozen=True)
class Authority:
    """Certificates of one authority, as files in PEM."""

    folder: Path
    name: str

    @property
    def ca(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def create(self) -> "Authority":
        self._openssl(self.name, "-subj", f"/CN={self.name}")
        return self

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key, for 127.0.0.1."""
        signer = ("-CA", str(self.ca), "-CAkey", str(self.folder / f"{self.name}.key"))
        address = ("-addext", "subjectAltName=IP:127.0.0.1")
        leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
        self._openssl(name, "-subj", f"/CN={name}", *signer, *address, *leaf)
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def keystore(self) -> dict[str, str]:
        """Settings of a broker with a certificate of this authority, whose clients' it trusts."""
        certificate, key = self.issue("broker")
        path = self.folder / "keystore.pem"
        path.write_bytes(key.read_bytes() + certificate.read_bytes())
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(path),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
        }

    def _openssl(self, name: str, *options: str) -> None:
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        command = [require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
        command += ["-days", "2", *files, *options]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
