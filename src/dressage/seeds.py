"""Every draw's seed is made from names, so skipping or reordering work changes nothing."""

import hashlib
import hmac


def seed_for(*names: object) -> int:
    """A 63-bit seed from names such as (run seed, stage, role, round, attempt, update, prompt id, index)."""
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def nonce_for(secret: str, *names: object) -> str:
    """Eight hex digits a policy cannot predict (it never sees `secret`), the same again on a rerun."""
    message = "\x1f".join(str(name) for name in names).encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()[:8]
