"""Where a served model is: a URL with the model's name behind the host.

http://localhost:8000/resnet   grpc://localhost:8001/resnet   https://host/prefix/v2/models/resnet/versions/3
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from normexport.errors import UsageError
from normexport.text import printable

#: Seconds for one request, where nothing is said.
TIMEOUT = 30.0

#: Scheme -> (whether it is gRPC, whether it is encrypted, the port where none is named).
SCHEMES = {
    "http": (False, False, 8000),
    "https": (False, True, 443),
    "grpc": (True, False, 8001),
    "grpcs": (True, True, 443),
}

_EXAMPLE = "write it as http://localhost:8000/MODEL or grpc://localhost:8001/MODEL"


@dataclass(frozen=True)
class Address:
    """A model of a server.

    Attributes:
        server: host:port, with the prefix of its paths where it has one.
        grpc, encrypted: how it is spoken to.
        model: the model's name.
        version: which version of it; "": the server chooses.
    """

    server: str
    grpc: bool
    encrypted: bool
    model: str
    version: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        """The address that a URL names.

        Raises:
            UsageError: it is of another scheme, names no host or no model, or holds what has no meaning here.
        """
        place = f"--url {printable(url, 200)}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(place, "is not a URL", _EXAMPLE) from error
        if parts.scheme not in SCHEMES:
            raise UsageError(place, f"does not begin with {', '.join(f'{each}://' for each in SCHEMES)}", _EXAMPLE)
        if not parts.hostname or not url.isprintable() or " " in url:
            raise UsageError(place, "names no host", _EXAMPLE)
        if parts.username is not None or parts.query or parts.fragment:
            raise UsageError(place, "holds a user, a query or a fragment, which mean nothing here", _EXAMPLE)
        grpc, encrypted, usual = SCHEMES[parts.scheme]
        prefix, model, version = _model_in(parts.path, place)
        if grpc and prefix:
            raise UsageError(place, "has a prefix before the model, and gRPC has no paths", _EXAMPLE)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{host}:{port or usual}{prefix}", grpc, encrypted, model, version)


def _model_in(path: str, place: str) -> tuple[str, str, str]:
    """(prefix of the paths, model, version) in PREFIX/v2/models/NAME/versions/V, or in NAME or NAME/V alone."""
    words = [unquote(word) for word in path.strip("/").split("/") if word]
    if any("/" in word or not word.isprintable() for word in words):
        raise UsageError(place, "has a model's name that no server takes", _EXAMPLE)
    at = next((index for index in range(len(words) - 1) if words[index : index + 2] == ["v2", "models"]), None)
    prefix, named = ([], words) if at is None else (words[:at], words[at + 2 :])
    if len(named) == 3 and named[1] == "versions":
        named = [named[0], named[2]]
    if not 1 <= len(named) <= 2:
        raise UsageError(place, "names no model" if not named else "has more behind the model than a version", _EXAMPLE)
    return "".join(f"/{word}" for word in prefix), named[0], named[1] if len(named) == 2 else ""
