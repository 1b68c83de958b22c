"""Who may ask and who may change tasks: bearer tokens, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vpt.errors import ConfigError
from e2vpt.serving.refusals import Refused

_SHORTEST = 16


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Tokens:
    """The tokens of a server.

    Attributes:
        predict: that let a client predict; without any, everyone may.
        admin: that let a client change tasks, and predict; without any, nobody may change tasks.
    """

    predict: Sequence[str] = ()
    admin: Sequence[str] = ()

    def check_predict(self, authorization: str | None) -> None:
        """Hold a request's `Authorization` header to the tokens.

        Raises:
            Refused: 401, another token or none.
        """
        if self.predict and not _is_one_of(authorization, [*self.predict, *self.admin]):
            raise _unauthorized("a token of this server")

    def check_admin(self, authorization: str | None) -> None:
        """The same for a request that changes tasks.

        Raises:
            Refused: 401, another token or none; 403, this server has no admin token.
        """
        if not self.admin:
            raise Refused(
                403,
                "Tasks cannot be changed: this server has no admin token. Start it with --admin-token-file.",
            )
        if not _is_one_of(authorization, self.admin):
            raise _unauthorized("an admin token of this server")


def read_tokens(file: Path | None, variable: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Tokens of a file, one a line, or of an environment variable; never of the command line, which all see.

    Raises:
        ConfigError: the file cannot be read, holds none, or a token is too short or not printable ASCII.
    """
    if file is None:
        text, where = environment.get(variable, ""), f"the environment variable {variable}"
        if not text:
            return []
    else:
        where = str(file)
        try:
            text = file.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{where} cannot be read as tokens ({type(error).__name__}).") from error
    tokens = text.split()
    if not tokens:
        raise ConfigError(f"{where} holds no token; expected one a line.")
    if any(len(token) < _SHORTEST or not token.isascii() or not token.isprintable() for token in tokens):
        raise ConfigError(f"A token in {where} is shorter than {_SHORTEST} printable ASCII characters.")
    return tokens


def _is_one_of(authorization: str | None, tokens: Sequence[str]) -> bool:
    scheme, _, given = (authorization or "").partition(" ")
    digest = _digest(given.strip())
    # All are compared, digests of one length: time tells neither which nor how much of one was right.
    matches = [hmac.compare_digest(digest, _digest(token)) for token in tokens]
    return scheme.lower() == "bearer" and any(matches)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _unauthorized(what: str) -> Refused:
    return Refused(
        401, f"This needs the header Authorization: Bearer TOKEN with {what}.", WWW_Authenticate="Bearer"
    )
