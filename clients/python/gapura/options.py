"""What a gateway object is told; `Gateway` says what each is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Profile = Literal["hpke", "jwe", "aes128gcm", "cryptojs"]


@dataclass(frozen=True, kw_only=True)
class Options:
    encryption: str
    profile: Profile
    subject: str | Callable[[], str] | None
    token_id: str | Callable[[], str]
    members: Sequence[str]
    keys: Mapping[str, object] | None
    session_key: bool
    chacha: bool
    mac: bool
    retries: int
    authority: str | None
    credential_headers: Sequence[str]
    now: Callable[[], float]
