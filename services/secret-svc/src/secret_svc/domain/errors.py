"""Why secret-svc refuses."""

from bizosaas_events import DomainError, Kind, UnavailableError


class SecretIdInvalidError(DomainError):
    slug = "secret-id-invalid"

    def __init__(self, secret_id: str) -> None:
        super().__init__(
            f"{secret_id[:150]!r} cannot be the id of a secret.",
            field="secret_id",
            remedy="Use 1 to 128 of a-z, A-Z, 0-9, hyphen, underscore and dot, beginning with a letter or digit.",
        )


class SecretIdReservedError(DomainError):
    kind = Kind.FORBIDDEN
    slug = "secret-id-reserved"

    def __init__(self, prefix: str) -> None:
        super().__init__(
            f"Secrets named {prefix}… belong to the platform.", field="secret_id", remedy="Choose another id."
        )


class SealInvalidError(DomainError):
    slug = "seal-invalid"

    def __init__(self) -> None:
        super().__init__(
            "The credential was not sealed to secret-svc's public key, or is damaged.",
            field="sealed",
            remedy="Give the sender BIZOS_SECRET_SVC_PUBLIC_KEY of this secret-svc.",
        )


class ValueSizeError(DomainError):
    slug = "value-size"

    def __init__(self, size: int, largest: int) -> None:
        super().__init__(
            f"The credential has {size} bytes; 1 to {largest} can be kept.", field="sealed", remedy="Seal another one."
        )


class RecipientInvalidError(DomainError):
    slug = "recipient-invalid"

    def __init__(self) -> None:
        super().__init__(
            "The recipient is not an X25519 public key.",
            field="recipient",
            remedy="Send the 32 bytes of the public half of a key made for this lease.",
        )


class VersionNotReadableError(DomainError):
    kind = Kind.CONFLICT
    slug = "version-not-readable"

    def __init__(self, version: int, readable: list[int]) -> None:
        super().__init__(
            f"Version {version} of this secret cannot be read.",
            field="version",
            remedy=f"Readable: {', '.join(map(str, readable))}.",
        )


class VersionTakenError(DomainError):
    """Another command took the number first; its handler goes on with the next one."""

    kind = Kind.CONFLICT
    slug = "version-taken"

    def __init__(self, version: int) -> None:
        super().__init__(f"There is a version {version} of this secret.", field="version", remedy="Try again.")


class SecretRevokedError(DomainError):
    kind = Kind.CONFLICT
    slug = "secret-revoked"

    def __init__(self) -> None:
        super().__init__(
            "This secret is revoked.", field="secret_id", remedy="Store the new credential under a new id."
        )


class SecretLostError(DomainError):
    """Our events know the version and the store does not: it was emptied, replaced or restored from an old backup."""

    kind = Kind.CONFLICT
    slug = "secret-lost"

    def __init__(self) -> None:
        super().__init__(
            "The secret store no longer has this credential.",
            field="secret_id",
            remedy="Restore the secret store from its backup, or store the credential again under a new id.",
        )


class SecretStoreAwayError(UnavailableError):
    slug = "secret-store-away"

    def __init__(self) -> None:
        super().__init__(
            "The secret store is sealed or away; nothing was changed.", remedy="Try again shortly.", retry_after=5
        )
